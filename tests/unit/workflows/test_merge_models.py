"""Merging small models on phantoms: what is written, what stays as it was, what is loaded, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medmoe_cli.core.base.errors import ConfigError, MedMoEError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.merge_report import MergeReport
from medmoe_cli.core.models.sam_med3d_moe.merging import experts_from
from medmoe_cli.core.nn.weights import load_tensors
from medmoe_cli.core.workflows import merge_experts
from medmoe_cli.core.workflows.merging import gate as merge_gate
from medmoe_cli.core.workflows.merging.options import MergeResult, OwnedData
from medmoe_cli.core.workflows.merging.parts import read_merged
from medmoe_cli.core.workflows.model_files.model_folder import load_model
from medmoe_cli.core.workflows.model_files.shared_model import read_record, verify_files
from tests.tools.merging import merge, options, same, standard_workspace

CONTENT = (
    "LICENSE",
    "MODEL_CARD.md",
    "experts/lungs.safetensors",
    "model.json",
    "model.safetensors",
    "report.json",
    "report.png",
    "run.json",
)


def names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


def hashes(folder: Path, *, leave_out: tuple[str, ...] = ("run.json",)) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in names(folder) if name not in leave_out}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return standard_workspace(tmp_path_factory.mktemp("merging"), experts=("lungs", "bones"))


@pytest.fixture(scope="module")
def merged(workspace: Workspace) -> MergeResult:
    return merge(workspace, options("lungs", output=workspace.root / "out" / "one"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Names of the tensors that the gate's training has in memory."""
    seen: dict[str, set[str]] = {}
    build: Callable[..., Any] = merge_gate.gate_model

    def watch(assembly: Any) -> Any:
        model = build(assembly)
        seen["gate"] = set(model.state_dict())
        return model

    monkeypatch.setattr(merge_gate, "gate_model", watch)
    return seen


def test_a_merged_folder_holds_the_model_the_report_and_the_card(merged: MergeResult) -> None:
    assert names(merged.folder) == CONTENT
    record = read_record(merged.folder)
    verify_files(merged.folder, record, frozenset(record.entries))
    assert record.experts == ("lungs",)
    assert record.class_names == ("heart", "lungs part")
    assert "## Merged experts" in (merged.folder / "MODEL_CARD.md").read_text()
    assert (merged.folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert not list(merged.folder.parent.glob(".tmp-*"))


def test_general_and_expert_are_the_ones_that_were_given(workspace: Workspace, merged: MergeResult) -> None:
    shared = load_tensors(merged.folder / "model.safetensors")
    base = load_tensors(workspace.models / "base" / "model.safetensors")
    assert same({name: tensor for name, tensor in shared.items() if not name.startswith("gate.")}, base)
    assert any(name.startswith("gate.") for name in shared)
    (own,) = experts_from(load_tensors(workspace.models / "lungs-model" / "model.safetensors"))
    assert same(load_tensors(merged.folder / "experts" / "lungs.safetensors"), own)


def test_a_merged_folder_loads_as_any_model_does(workspace: Workspace, merged: MergeResult) -> None:
    loaded = load_model(str(merged.folder), workspace=workspace)
    expected = load_tensors(merged.folder / "model.safetensors")
    own = load_tensors(merged.folder / "experts" / "lungs.safetensors")
    expected.update({f"experts.0.{name}": tensor for name, tensor in own.items()})
    assert same(dict(loaded.segmenter.state_dict()), expected)
    assert loaded.class_names == ("heart", "lungs part")


def test_the_report_counts_every_held_out_sample_and_query(merged: MergeResult) -> None:
    report = MergeReport.model_validate(json.loads((merged.folder / "report.json").read_text()))
    assert report == merged.report
    assert [(one.dataset, one.owner, one.held_out) for one in report.data] == [
        ("hearts", "general", 1),
        ("lungs", "lungs", 1),
    ]
    assert [(one.task, one.owner, one.way, one.n) for one in report.tasks] == [
        ("hearts: heart", "general", "points", 1),
        ("hearts: heart", "general", "box", 1),
        ("lungs: lungs part", "lungs", "points", 1),
        ("lungs: lungs part", "lungs", "box", 1),
    ]
    assert [one.expert is None for one in report.tasks] == [True, True, False, False]
    assert report.routing.owners == ("general", "lungs")
    assert [sum(row) for row in report.routing.counts] == [2, 2]
    assert report.opening == report.routing.opening
    assert {left.expert for left in report.left_out} == {"lungs"}
    assert report.gate.samples == {"general": 4, "lungs": 4}
    assert {"owner", "dice", "bce"} <= report.gate.loss.keys()


def test_merging_twice_gives_the_same_bytes(workspace: Workspace, merged: MergeResult) -> None:
    again = merge(workspace, options("lungs", output=workspace.root / "again" / "one"))
    assert hashes(again.folder) == hashes(merged.folder)


def test_a_gate_that_never_opens_leaves_the_general_model_as_it_was(workspace: Workspace) -> None:
    report = merge(workspace, options("lungs", output=workspace.root / "out" / "shut", tau=1.0)).report
    assert [one.merged for one in report.tasks] == [one.general for one in report.tasks]
    assert report.forgetting == {"points": 0.0, "box": 0.0}
    assert report.opening == {"general": 0.0, "lungs": 0.0}
    assert all(delta == 0 for left in report.left_out for delta in left.deltas.values())


def test_a_gate_that_always_opens_is_worth_nothing_without_its_expert(workspace: Workspace) -> None:
    wanted = options(
        "lungs", output=workspace.root / "out" / "open", tau=0.0, assignments=("model.fusion=average",), steps=1
    )
    report = merge(workspace, wanted).report
    assert report.routing.counts == ((0, 2), (0, 2))
    general = {(one.task, one.way): one.general for one in report.tasks}
    merged = {(one.task, one.way): one.merged for one in report.tasks}
    assert general != merged
    # Left out, the expert is still 'the best' of the gate at threshold 0, with no probability: an average all the same.
    assert all(left.deltas.keys() == {"general", "lungs"} for left in report.left_out)


def test_tau_auto_holds_patients_out_and_writes_the_curve(workspace: Workspace) -> None:
    report = merge(workspace, options("lungs", output=workspace.root / "out" / "auto", tau="auto")).report
    assert report.tau_why.startswith("auto")
    assert report.tau in {point.tau for point in report.tau_curve}
    assert report.gate.samples == {"general": 3, "lungs": 3}
    record = read_record(workspace.root / "out" / "auto")
    assert record.model["tau"] == report.tau


def test_adding_an_expert_leaves_the_others_alone_and_unloaded(
    workspace: Workspace, counted: dict[str, set[str]]
) -> None:
    first = merge(workspace, options("lungs", output=workspace.root / "out" / "growing"))
    before = hashes(first.folder)
    general = load_tensors(first.folder / "model.safetensors")
    second = merge(workspace, options("bones", into=str(first.folder)))
    assert second.experts == ("lungs", "bones")
    assert second.added == ("bones",)
    assert not any(name.startswith("experts.0.") for name in counted["gate"])
    assert any(name.startswith("experts.1.mask_decoder.") for name in counted["gate"])
    after = hashes(first.folder)
    assert after["experts/lungs.safetensors"] == before["experts/lungs.safetensors"]
    shared = load_tensors(first.folder / "model.safetensors")
    assert {name for name in shared if not torch.equal(shared[name], general.get(name, torch.zeros(())))} == {
        name for name in shared if name.startswith("gate.") and not torch.equal(shared[name], general[name])
    }
    assert shared["gate.head.2.weight"].shape[0] == 3
    assert [(one.dataset, one.owner) for one in second.report.data] == [
        ("hearts", "general"),
        ("lungs", "lungs"),
        ("bones", "bones"),
    ]
    assert second.report.experts["lungs"] == first.report.experts["lungs"]
    assert second.report.general == first.report.general
    assert second.report.gate.grown_from == 1
    record = read_record(first.folder)
    assert record.class_names == ("heart", "lungs part", "bones part")
    verify_files(first.folder, record, frozenset(record.entries))
    assert not list(first.folder.parent.glob(".tmp-*"))


def test_the_other_experts_files_are_read_only_for_the_report(
    workspace: Workspace, merged: MergeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = read_merged(str(merged.folder), workspace=workspace)
    assert not any("experts." in name for name in (*growing.general.tensors, *growing.gate))
    assert growing.experts == {"lungs": merged.folder / "experts" / "lungs.safetensors"}

    def refuse(path: Path) -> Any:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(merge_experts, "load_tensors", refuse)  # what the report reads them with
    with pytest.raises(AssertionError, match=r"lungs\.safetensors was read"):
        merge(workspace, options("bones", into=str(merged.folder)))
    assert names(merged.folder) == CONTENT  # the model is as it was


@pytest.mark.parametrize("owned", [(OwnedData(dataset="lungs"),), (OwnedData(dataset="hearts", owner="lungs"),)])
def test_without_data_of_the_general_tasks_it_refuses_and_says_why(
    workspace: Workspace, owned: tuple[OwnedData, ...]
) -> None:
    with pytest.raises(MedMoEError, match="all else is forgotten") as caught:
        merge(workspace, options("lungs", output=workspace.root / "none", data=owned))
    assert caught.value.exit_code == 2
    assert "--data general=DATASET" in caught.value.line()
    assert not (workspace.root / "none").exists()


def test_without_data_of_the_expert_it_refuses(workspace: Workspace) -> None:
    wanted = options("lungs", output=workspace.root / "none", data=(OwnedData(dataset="hearts"),))
    with pytest.raises(ConfigError, match="no data of the tasks of expert 'lungs'"):
        merge(workspace, wanted)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"output": None}, "where to"),
        ({"general": None}, "no general model"),
        ({"assignments": ("model.width=96",)}, "model.width: 96, not 48"),
        ({"assignments": ("model.role=expert",)}, "cannot --set"),
        ({"assignments": ("plan.input_size=64",)}, "cannot --set"),
        ({"assignments": ("train.setps=3",)}, "did you mean 'steps'"),
        ({"data": (OwnedData(dataset="hearts", owner="lung"),)}, "did you mean 'lungs'"),
        ({"data": (OwnedData(dataset="hearts"), OwnedData(dataset="hearts", owner="lungs"))}, "named twice"),
    ],
)
def test_wrong_options_are_refused_before_any_work(workspace: Workspace, values: dict[str, Any], words: str) -> None:
    wanted = options("lungs", **{"output": workspace.root / "none", **values})
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        merge(workspace, wanted)
    assert not (workspace.root / "none").exists()


def test_a_merged_model_is_not_a_general_one_and_a_name_is_taken_once(
    workspace: Workspace, merged: MergeResult
) -> None:
    with pytest.raises(MedMoEError, match="merged already") as caught:
        merge(workspace, options("bones", general=str(merged.folder), output=workspace.root / "none"))
    assert caught.value.exit_code == 4
    with pytest.raises(ConfigError, match="an expert has that name"):
        merge(workspace, options("lungs", into=str(merged.folder)))


def test_a_damaged_expert_file_is_noticed_before_growing(workspace: Workspace) -> None:
    folder = merge(workspace, options("lungs", output=workspace.root / "out" / "damaged", steps=1)).folder
    path = folder / "experts" / "lungs.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(MedMoEError, match="sha256") as caught:
        merge(workspace, options("bones", into=str(folder)), Silent())
    assert caught.value.exit_code == 4
