"""Where a training starts: an added backbone, or a model trained before on images made the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import BackboneRecord, KeySummary
from medmoe_cli.core.config.plan import ChannelPlan, MemberPlan, Plan
from medmoe_cli.core.nn.weights import save_tensors
from medmoe_cli.core.workflows.model_files.model_folder import load_model
from medmoe_cli.core.workflows.model_files.starting_weights import starting_tensors
from tests.tools.models import untrained_model
from tests.tools.oracle import oracle_plan


def added(folder: Path) -> dict[str, torch.Tensor]:
    """An added backbone of one tensor."""
    folder.mkdir(parents=True)
    tensors = {"image_encoder.pos_embed": torch.arange(6.0)}
    weights = save_tensors(folder / "model.safetensors", tensors)
    record = BackboneRecord(
        name=folder.name,
        architecture="sam-vit-b",
        parameters=6,
        tensors_sha256=file_sha256(weights),
        source_file="x.pth",
        source_sha256="0" * 64,
        source_is_public=None,
        keys=KeySummary(loaded=1),
        licence="Apache-2.0",
        added="2025-01-01",
        medmoe="0",
    )
    jsonio.write(folder / "model.json", record)
    return tensors


def test_a_backbone_by_name_or_path_and_a_trained_model_likewise(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path / "home", origin="test")
    tensors = added(workspace.models / "sam-vit-b")
    general = untrained_model(workspace.models / "general", labels={"organ": 1})
    trained = load_model("general", workspace=workspace)
    for name in ("sam-vit-b", str(workspace.models / "sam-vit-b")):
        found = starting_tensors(name, workspace=workspace, plan=trained.plan, reporter=Silent())
        assert set(found) == set(tensors)
        assert torch.equal(found["image_encoder.pos_embed"], tensors["image_encoder.pos_embed"])
    for name in ("general", str(general)):
        found = starting_tensors(name, workspace=workspace, plan=trained.plan, reporter=Silent())
        expected = trained.segmenter.state_dict()
        assert set(found) == set(expected)
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_model_of_other_images_is_refused_with_each_differing_key(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, origin="test")
    untrained_model(workspace.models / "general", labels={"organ": 1})
    theirs = load_model("general", workspace=workspace).plan
    ours = theirs.model_copy(
        update={"input_size": 2 * theirs.input_size, "channels": (ChannelPlan(name="MR", normalization="zscore"),)}
    )
    with pytest.raises(CheckpointError) as error:
        starting_tensors("general", workspace=workspace, plan=ours, reporter=Silent())
    assert error.value.why is not None
    assert f"input_size: {theirs.input_size} there, {ours.input_size} here" in error.value.why
    assert "normalization: " in error.value.why
    assert "spacing_mm" not in error.value.why
    assert error.value.exit_code == 4
    assert (
        error.value.fix
        == f"--set plan.input_size={theirs.input_size} --set plan.normalization={theirs.channels[0].normalization}"
    )
    other_names = theirs.model_copy(update={"labels": {"lesion": 1}, "dataset": "another", "mirror_axes": ()})
    assert starting_tensors("general", workspace=workspace, plan=other_names, reporter=Silent())


def test_a_model_of_a_collection_knows_its_members_images(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, origin="test")
    own = oracle_plan(labels={"organ": 1})
    grey = own.model_copy(update={"channels": (ChannelPlan(name="MR", normalization="percentile"),)})
    members = tuple(
        MemberPlan(dataset=name, dimensionality=2, num_cases=1, classes={"organ": "organ"}, plan=plan)
        for name, plan in (("scans", grey), ("photographs", colours(own)))
    )
    joined = colours(own).model_copy(update={"members": members})
    untrained_model(workspace.models / "general", labels={"organ": 1}, plan=joined)
    for plan in (grey, joined, colours(own), colours(grey)):
        assert starting_tensors("general", workspace=workspace, plan=plan, reporter=Silent())
    other = own.model_copy(update={"channels": (ChannelPlan(name="MR", normalization="zscore"),)})
    with pytest.raises(CheckpointError, match="normalization: rgb there, zscore here"):
        starting_tensors("general", workspace=workspace, plan=other, reporter=Silent())


def colours(plan: Plan) -> Plan:
    """The same plan for photographs, or for grey images that are shown as such."""
    kind = "percentile" if plan.channels[0].normalization == "percentile" else "rgb"
    return plan.model_copy(update={"channels": tuple(ChannelPlan(name=name, normalization=kind) for name in "RGB")})


def test_what_is_not_there_or_damaged_is_said(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, origin="test")
    untrained_model(workspace.models / "general", labels={"organ": 1})
    plan = load_model("general", workspace=workspace).plan
    with pytest.raises(CheckpointError, match=r"no backbone or trained model 'genral'.*did you mean 'general'"):
        starting_tensors("genral", workspace=workspace, plan=plan, reporter=Silent())
    added(workspace.models / "sam-vit-b")
    (workspace.models / "sam-vit-b" / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged model record"):
        starting_tensors("sam-vit-b", workspace=workspace, plan=plan, reporter=Silent())
