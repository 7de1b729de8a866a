"""`models add sam-med3d`: the public file's nesting and arguments, the new corners of a box, and what is refused."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import BACKBONES
from medmoe_cli.core.nn.backbones import backbone_parts, convert, load_backbone
from medmoe_cli.core.nn.sam3d import NEW_TENSORS
from medmoe_cli.core.nn.weights import load_into
from medmoe_cli.core.workflows.models import add_model

HERE = Path("turbo.pth")


@pytest.fixture(scope="module")
def public() -> dict[str, Tensor]:
    """The public names and shapes, every tensor of another value and almost without memory."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in backbone_parts("sam-med3d").state_dict().items()}
    return {
        name: torch.tensor(float(number)).expand(shape)
        for number, (name, shape) in enumerate(shapes.items())
        if name not in NEW_TENSORS
    }


def test_the_public_file_is_taken_whole(public: dict[str, Tensor], tmp_path: Path) -> None:
    """Nested, from parallel training, with an argparse.Namespace beside the weights."""
    path = tmp_path / "sam_med3d_turbo.pth"
    state = {f"module.{name}": tensor.to(torch.float16).contiguous() for name, tensor in public.items()}
    arguments = argparse.Namespace(lr=8e-4, task_name="x", gpu_ids=[0, 1], checkpoint=None)
    torch.save({"epoch": 3, "model_state_dict": state, "args": arguments, "best_loss": 0.1, "losses": [0.3]}, path)
    workspace = Workspace(root=tmp_path / "workspace", origin="test")
    reporter = Silent()
    added = add_model(workspace=workspace, architecture="sam-med3d", path=path, reporter=reporter)
    assert reporter.warnings == []
    keys = added.record.keys
    assert (keys.loaded, keys.resized, keys.unexpected, keys.left_out) == (324, (), (), ())
    assert keys.new == NEW_TENSORS
    assert added.record.parameters == BACKBONES["sam-med3d"].parameters == 100_509_232 + 2 * 384
    assert added.record.source_sha256 == file_sha256(path)
    assert json.loads((added.folder / "model.json").read_text())["keys"]["new"] == list(NEW_TENSORS)
    tensors = load_backbone(added.folder)
    assert not load_into(backbone_parts("sam-med3d"), tensors).missing
    for name, tensor in state.items():
        assert torch.equal(tensors[name.removeprefix("module.")], tensor), name
    for name in NEW_TENSORS:
        assert torch.equal(tensors[name], tensors["prompt_encoder.point_embeddings.1.weight"])
    assert add_model(workspace=workspace, architecture="sam-med3d", path=path, reporter=reporter).cached


def test_corners_that_were_trained_are_kept(public: dict[str, Tensor]) -> None:
    trained = {**public, **{name: torch.full((1, 384), -7.0) for name in NEW_TENSORS}}
    converted = convert(trained, architecture="sam-med3d", where=HERE)
    assert converted.new == ()
    assert all(converted.tensors[name].eq(-7).all() for name in NEW_TENSORS)


def test_tables_of_another_cube_are_kept_and_reported(public: dict[str, Tensor]) -> None:
    name = "image_encoder.pos_embed"
    smaller = {**public, name: torch.zeros(1, 4, 4, 4, 768)}
    converted = convert(smaller, architecture="sam-med3d", where=HERE)
    assert converted.report.resized == (name,)
    assert converted.tensors[name].shape == (1, 4, 4, 4, 768)


def test_unknown_tensors_are_reported(public: dict[str, Tensor]) -> None:
    converted = convert({**public, "pixel_mean": torch.zeros(3)}, architecture="sam-med3d", where=HERE)
    assert converted.report.unexpected == ("pixel_mean",)
    assert "pixel_mean" not in converted.tensors


@pytest.mark.parametrize("gone", ["prompt_encoder.point_embeddings.1.weight", "mask_decoder.iou_token.weight"])
def test_any_other_missing_tensor_is_refused(public: dict[str, Tensor], gone: str) -> None:
    part = {name: tensor for name, tensor in public.items() if name != gone}
    with pytest.raises(CheckpointError, match=rf"1 of sam-med3d's tensors are missing: {gone}"):
        convert(part, architecture="sam-med3d", where=HERE)


def test_each_dimension_names_the_other(public: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"not a sam-vit-b.*fix: medmoe models add sam-med3d "):
        convert(public, architecture="sam-vit-b", where=HERE)
    with torch.device("meta"):
        flat = {name: tuple(tensor.shape) for name, tensor in backbone_parts("sam-vit-b").state_dict().items()}
    tensors = {name: torch.tensor(0.0).expand(shape) for name, shape in flat.items()}
    with pytest.raises(CheckpointError, match=r"not a sam-med3d.*fix: medmoe models add sam-vit-b "):
        convert(tensors, architecture="sam-med3d", where=HERE)


@pytest.mark.parametrize("architecture", ["sam-vit-b", "sam-vit-l", "sam-vit-h", "imisnet-b"])
def test_only_sam_med3d_may_carry_arguments(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model_state_dict": {"weight": torch.ones(2)}, "args": argparse.Namespace(lr=1)}, path)
    workspace = Workspace(root=tmp_path / "workspace", origin="test")
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        add_model(workspace=workspace, architecture=architecture, path=path, reporter=Silent())
