"""DA-SAM3 as a user types it: train in stages, ask by name, ask for words that no training named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import NAMES, make_dataset

SETTINGS = (
    "plan.input_size=32", "model.patch_size=8", "model.vision_width=32", "model.vision_depth=1", "model.vision_heads=2",
    "model.text_width=32", "model.text_depth=1", "model.width=32", "model.heads=2", "model.mlp=64",
    "model.fusion_layers=4", "model.stem_channels=8", "model.calibrate_share=0.5", "train.ema=0.9",
)  # fmt: skip


def train(workspace: Path, *arguments: str) -> Ran:
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    command = ["train", "--method", "da-sam3", "--data", "pair", "-d", "cpu"]
    return medmoe_here("--workspace", workspace, *command, *arguments, *sets)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset and a run of two steps, one per stage."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "pair", cases=6, classes=2, shape=(28, 24, 6))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = train(root, "--steps", "2", "--name", "both")
    assert done.code == 0, done.err
    yield root
    torch.set_num_threads(threads)


def fold(workspace: Path, run: str) -> Path:
    return workspace / "runs" / "pair" / "da-sam3" / run / "fold_0"


def digests(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return {name: hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest() for name in file.keys()}  # noqa: SIM118


def test_the_small_preset_is_taken_where_no_weights_are(workspace: Path) -> None:
    plan = json.loads((fold(workspace, "both") / "plan.json").read_text())
    assert (plan["preset"], plan["method"]) == ("da-sam3-tiny", "da-sam3")


def test_stages_one_by_one_are_the_whole(workspace: Path) -> None:
    first = train(workspace, "--steps", "2", "--name", "apart", "--stage", "adapt")
    assert first.code == 0, first.err
    assert "--stage calibrate" in first.out + first.err
    apart = fold(workspace, "apart") / "checkpoints"
    adapted = digests(apart / "step-1" / "model.safetensors")
    second = train(workspace, "--steps", "2", "--name", "apart", "--stage", "calibrate")
    assert second.code == 0, second.err
    whole = fold(workspace, "both") / "checkpoints" / "step-2" / "model.safetensors"
    calibrated = digests(apart / "step-2" / "model.safetensors")
    assert calibrated == digests(whole)
    changed = {name for name, digest in calibrated.items() if adapted[name] != digest}
    assert changed
    assert all(".router." in name for name in changed)


def test_a_stage_out_of_turn_or_unknown_is_refused_in_one_line(workspace: Path) -> None:
    assert_one_line_error(train(workspace, "--steps", "2", "--name", "none", "--stage", "calibrate"), 2, "none")
    assert_one_line_error(train(workspace, "--steps", "2", "--name", "none", "--stage", "adopt"), 2, "adapt")


def test_names_are_asked_and_answered_in_the_scans_own_space(workspace: Path, tmp_path: Path) -> None:
    scans = workspace / "datasets" / "pair" / "imagesTr"
    done = medmoe_here(
        "--workspace", workspace, "predict", "-i", scans, "-o", tmp_path / "masks", "-m", "both", "--text", NAMES[0]
    )  # fmt: skip
    assert done.code == 0, done.err
    for path in sorted(scans.glob("*_0000.nii.gz")):
        scan, mask = nib.load(path), nib.load(tmp_path / "masks" / path.name.replace("_0000", ""))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)


def test_the_layers_with_experts_are_explained(workspace: Path) -> None:
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    done = medmoe_here("--workspace", workspace, "plan", "pair", "--method", "da-sam3", "--explain", *sets)
    assert done.code == 0, done.err
    assert "layers 1, 2, 3 of the 4 fusion layers" in done.out + done.err
