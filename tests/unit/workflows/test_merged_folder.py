"""A merged model as a folder: its experts in files of their own, every one of them checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.nn.weights import tensor_shapes
from medmoe_cli.core.workflows.model_files.model_folder import load_model
from tests.tools.merging import put_model
from tests.tools.sam_med3d import small_merged, volume_plan

EXPERTS = [{"name": "first", "classes": ["organ 2"]}, {"name": "second", "classes": ["organ 3", "organ 1"]}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = volume_plan()
    return put_model(tmp_path / "merged", small_merged(plan=plan, experts=EXPERTS), plan)


def _load(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, workspace=Workspace(root=folder.parent, origin="test")).segmenter.state_dict()


def test_experts_lie_in_their_own_files_and_come_back(folder: Path) -> None:
    shared = set(tensor_shapes(folder / "model.safetensors"))
    assert any(name.startswith("gate.") for name in shared)
    assert not any(name.startswith("experts.") for name in shared)
    own = set(tensor_shapes(folder / "experts" / "second.safetensors"))
    assert "query_tokens" in own
    assert all(name == "query_tokens" or name.startswith("mask_decoder.") for name in own)
    back, model = _load(folder), small_merged(plan=volume_plan(), experts=EXPERTS)
    assert back.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back[name], tensor)


@pytest.mark.parametrize("damage", ["changed", "gone", "unnamed", "swapped"])
def test_an_experts_file_that_is_not_its_own_is_refused(folder: Path, damage: str) -> None:
    path = folder / "experts" / "second.safetensors"
    if damage == "changed":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    elif damage == "gone":
        path.unlink()
    elif damage == "swapped":
        path.write_bytes((folder / "experts" / "first.safetensors").read_bytes())
    else:
        record = json.loads((folder / "model.json").read_text())
        del record["files"]["experts/second.safetensors"]
        (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError) as caught:
        _load(folder)
    assert "second.safetensors" in caught.value.line()


def test_a_record_that_points_elsewhere_is_refused(folder: Path) -> None:
    (folder.parent / "outside.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    record = json.loads((folder / "model.json").read_text())
    record["files"]["../outside.safetensors"] = record["files"]["model.safetensors"]
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="missing"):
        _load(folder)
