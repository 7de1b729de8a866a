"""Weights files: what is written comes back; what is damaged or hostile is refused in one line."""

import argparse
import ast
import os
import resource
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from medmoe_cli.core.base.errors import CheckpointError, ResourceError
from medmoe_cli.core.nn.weights import KeyReport, load_into, load_tensors, read_foreign, save_tensors
from tests.tools.hostile_weights import hostile_files

ROOT = Path(__file__).parents[2]


def test_hostile_and_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    refused = 0
    for what, path in hostile_files(tmp_path, canary):
        with pytest.raises(CheckpointError) as caught:
            read_foreign(path)
        line = caught.value.line()
        assert caught.value.exit_code == 4, what
        assert "\n" not in line, what
        assert "fix:" in line, what
        assert str(path) in line, what
        assert len(line) < 500, what
        assert not canary.exists(), what
        refused += 1
    assert refused >= 30


def test_allowing_a_namespace_allows_nothing_else(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    harmless = "an args namespace nobody allowed"  # accepted here, and without the namespace
    for what, path in hostile_files(tmp_path, canary):
        if what == harmless:
            assert list(read_foreign(path, allow_namespace=True)) == ["weight"]
            continue
        with pytest.raises(CheckpointError):
            read_foreign(path, allow_namespace=True)
        assert not canary.exists(), what


def test_the_blocked_class_is_named(tmp_path: Path) -> None:
    named = {path.stem: path for _, path in hostile_files(tmp_path, tmp_path / "canary")}
    for stem, name in (("system", "posix.system"), ("module", "torch.nn.modules.linear.Linear"), ("path", "pathlib")):
        with pytest.raises(CheckpointError, match=name):
            read_foreign(named[stem])


def test_torch_and_pickle_are_used_nowhere_else() -> None:
    offenders = []
    for path in sorted((ROOT / "medmoe_cli").rglob("*.py")):
        if path == ROOT / "medmoe_cli/core/nn/weights.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            loads = isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}
            if loads or {"pickle", "dill", "cloudpickle"} & {name.split(".")[0] for name in names}:
                offenders.append(f"{path.name}:{node.lineno}")
    assert offenders == []
    reader = (ROOT / "medmoe_cli/core/nn/weights.py").read_text(encoding="utf-8")
    calls = [
        node
        for node in ast.walk(ast.parse(reader))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(calls) == 1
    assert {keyword.arg: ast.unparse(keyword.value) for keyword in calls[0].keywords}["weights_only"] == "True"


@pytest.mark.parametrize("nesting", ["model_state_dict", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_nested_and_parallel_checkpoints_are_unwrapped(tmp_path: Path, nesting: str, prefix: str) -> None:
    state = OrderedDict((prefix + name, tensor) for name, tensor in nn.Linear(3, 2).state_dict().items())
    torch.save({nesting: state, "epoch": 4, "optimizer": {"lr": 1e-3}}, tmp_path / "checkpoint.pth")
    tensors = read_foreign(tmp_path / "checkpoint.pth")
    assert list(tensors) == ["weight", "bias"]
    assert torch.equal(tensors["weight"], state[prefix + "weight"])


def test_a_namespace_is_accepted_only_where_it_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "turbo.pth"
    torch.save({"model_state_dict": {"weight": torch.ones(2)}, "args": argparse.Namespace(lr=1, name="x")}, path)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        read_foreign(path)
    assert list(read_foreign(path, allow_namespace=True)) == ["weight"]
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):  # and nothing stays allowed afterwards
        read_foreign(path)


def test_tensors_come_back_with_shared_memory_views_and_kinds(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "whole": base,
        "tied": base,
        "view": base[1:3, ::2],
        "half": base.half(),
        "count": torch.tensor(3),
        "flags": base > 5,
        "none": torch.zeros(0, 3),
    }
    path = save_tensors(tmp_path / "new" / "model.safetensors", tensors, {"step": "7"})
    loaded = load_tensors(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def test_files_have_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    path = save_tensors(tmp_path / "model.safetensors", {"weight": torch.ones(2)})
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = save_tensors(tmp_path / "model.safetensors", {"weight": torch.ones(2)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ResourceError, match="no space left"):
            save_tensors(path, {"weight": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for read in (load_tensors, read_foreign):
        with pytest.raises(CheckpointError, match="no such file"):
            read(tmp_path / "absent.safetensors")
        with pytest.raises(CheckpointError, match="folder"):
            read(tmp_path)


def test_load_into_reports_every_name() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    tensors = {"0.weight": torch.ones(2, 3), "1.running_mean": torch.full((2,), 5.0), "extra": torch.ones(1)}
    report = load_into(module, tensors)
    assert report == KeyReport(
        loaded=("0.weight", "1.running_mean"),
        missing=("0.bias", "1.weight", "1.bias", "1.running_var", "1.num_batches_tracked"),
        unexpected=("extra",),
    )
    assert report.line() == "2 loaded (0 resized), 5 missing, 1 unexpected"
    assert module.state_dict()["0.weight"].eq(1).all()
    assert module.state_dict()["1.running_mean"].eq(5).all()


def test_load_into_changes_nothing_when_a_shape_differs() -> None:
    module = nn.Linear(3, 2)
    before = module.bias.clone()
    with pytest.raises(CheckpointError, match=r"weight is \(2, 4\), not \(2, 3\)"):
        load_into(module, {"bias": torch.ones(2), "weight": torch.ones(2, 4)})
    assert torch.equal(module.bias, before)


def test_load_into_refuses_what_matches_nothing() -> None:
    with pytest.raises(CheckpointError, match="no tensor fits"):
        load_into(nn.Linear(3, 2), {"encoder.weight": torch.ones(2, 3)})
    with pytest.raises(CheckpointError, match="no tensor fits"):
        load_into(nn.Linear(3, 2), {})


def test_load_into_resizes_only_what_it_is_told_to() -> None:
    module = nn.Linear(3, 2)

    def grow(name: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
        return torch.full(shape, 7.0) if name == "weight" else None

    report = load_into(module, {"weight": torch.ones(1, 1), "bias": torch.ones(2)}, resize=grow)
    assert report.resized == ("weight",)
    assert report.loaded == ("weight", "bias")
    assert module.weight.eq(7).all()
    with pytest.raises(CheckpointError, match="bias is"):
        load_into(module, {"weight": torch.ones(1, 1), "bias": torch.ones(9)}, resize=grow)
