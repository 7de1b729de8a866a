from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.engine.checkpoint import Checkpoints, Snapshot, read_snapshot
from medmoe_cli.core.engine.manifest import read_manifest
from medmoe_cli.core.engine.state import Meter, TrainState, differences


def snapshot(step: int, *, best: int | None = None) -> Snapshot:
    state = TrainState(step=step, best_step=best, best_dice=0.1 + 0.2 if best else None)
    state.epoch.add({"loss": 0.1}, {"layer1": [1.0, 3.0]})
    tensors = {"a.weight": torch.arange(12.0).reshape(3, 4) + step, "b": torch.tensor([1, 2])}
    return Snapshot(
        model=tensors, optimizer={"a.weight/exp_avg": torch.ones(3, 4)}, state=state, identity={"train.seed": "0"}
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    written = snapshot(7, best=7)
    folder = Checkpoints(tmp_path, keep=2).save(written)
    assert sorted(file.name for file in folder.iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    back = read_snapshot(folder)
    assert back.state == written.state
    assert back.identity == {"train.seed": "0"}
    for name, tensor in written.model.items():
        assert torch.equal(back.model[name], tensor)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["step"] == 7
    assert set(manifest["files"]) == {"model.safetensors", "optimizer.safetensors", "state.json"}


def test_every_flipped_byte_and_every_truncation_is_refused(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, keep=2).save(snapshot(1))
    rng = np.random.default_rng(0)
    files = [folder / name for name in ("model.safetensors", "optimizer.safetensors", "state.json")]
    for file in files:
        intact = file.read_bytes()
        for place in rng.choice(len(intact), 25, replace=False):
            damaged = bytearray(intact)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(bytes(damaged))
            with pytest.raises(CheckpointError) as caught:
                read_snapshot(folder)
            assert caught.value.exit_code == 4
            assert file.name in caught.value.where
        for length in rng.choice(len(intact), 8, replace=False):
            file.write_bytes(intact[:length])
            with pytest.raises(CheckpointError):
                read_snapshot(folder)
        file.write_bytes(intact)
    read_snapshot(folder)
    (folder / "state.json").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        read_manifest(folder)


def test_latest_passes_over_what_is_damaged_and_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (5, 10, 100):
        checkpoints.save(snapshot(step))
    assert checkpoints.steps() == [5, 10, 100]
    reporter = Silent()
    assert checkpoints.latest(reporter) == tmp_path / "step-100"
    assert not reporter.warnings
    (tmp_path / "step-100" / "MANIFEST.json").unlink()
    with (tmp_path / "step-10" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert checkpoints.latest(reporter) == tmp_path / "step-5"
    assert len(reporter.warnings) == 2
    assert "step-100" in reporter.warnings[0]
    assert "sha256" in reporter.warnings[1]
    (tmp_path / "step-5" / "MANIFEST.json").write_text("{")
    with pytest.raises(CheckpointError):
        checkpoints.latest(reporter)
    assert Checkpoints(tmp_path / "none", keep=2).latest(reporter) is None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(snapshot(step, best=2))
    assert checkpoints.steps() == [2, 4, 5]
    assert atomic.sweep(tmp_path) == 0


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, keep=2).save(snapshot(1))
    (tmp_path / "secret").write_text("x")
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"]["../secret"] = {"sha256": "0", "bytes": 1}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        read_manifest(folder)


def test_means_survive_json_exactly() -> None:
    meter = Meter()
    for value in np.random.default_rng(1).random(7):
        meter.add({"loss": float(value)}, {"layer1": [value, 1.0]})
    state = TrainState(step=3, epoch=meter)
    from medmoe_cli.core.base import jsonio

    back = TrainState.from_json(json.loads(jsonio.dumps(state)))
    assert back.epoch.means() == meter.means()
    assert back.epoch.loads == meter.loads
    assert sum(back.epoch.shares()["layer1"]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(CheckpointError):
        TrainState.from_json({"step": 1})


def test_differences_name_both_values() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == [
        "b: 2 then, 3 now",
        "c: absent then, 4 now",
    ]
