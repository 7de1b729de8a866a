"""MoE-SAM as a user types it: train, then predict with nothing else to say; two channels, neighbouring slices."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.datasets import make_dataset

SETTINGS = (
    "plan.input_size=32", "model.depth=2", "model.width=48", "model.heads=2", "model.decoder_width=32",
    "model.stem_channels=8", "train.workers=0", "train.ema=0.9",
)  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset of two channels and a finished run on it."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "pair", cases=6, classes=2, shape=(28, 24, 6), channels=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    command = ["train", "--method", "moe-sam", "--data", "pair", "-d", "cpu", "--steps", "120", "--name", "first"]
    done = medmoe_here("--workspace", root, *command, *sets)
    assert done.code == 0, done.err
    yield root
    torch.set_num_threads(threads)


def test_the_small_preset_is_taken_where_no_weights_are(workspace: Path) -> None:
    fold = workspace / "runs" / "pair" / "moe-sam" / "first" / "fold_0"
    plan = json.loads((fold / "plan.json").read_text())
    assert (plan["preset"], plan["context_slices"], len(plan["channels"])) == ("moe-sam-tiny", 1, 2)


def test_it_learns_and_finds_all_classes_without_a_prompt(workspace: Path) -> None:
    fold = workspace / "runs" / "pair" / "moe-sam" / "first" / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] > 0.5
    routing = json.loads((fold / "validation" / "routing.json").read_text())["places"]["feb"]
    counts = np.sum(list(routing["cases"].values()), axis=0)
    assert counts.shape == (4, 2)
    assert np.allclose(counts.sum(axis=1), counts.sum(axis=1)[0])  # experts choose, so every expert works alike


def test_predict_needs_nothing_but_scans(workspace: Path, tmp_path: Path) -> None:
    scans = workspace / "datasets" / "pair" / "imagesTr"
    done = medmoe_here("--workspace", workspace, "--json", "predict", "-i", scans, "-o", tmp_path / "masks")
    assert done.code == 0, done.err
    for path in sorted(scans.glob("*_0000.nii.gz")):
        scan = nib.load(path)
        mask = nib.load(tmp_path / "masks" / path.name.replace("_0000", ""))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        assert set(np.unique(np.asarray(mask.dataobj)).tolist()) <= {0, 1, 2}


def test_prompts_are_refused_in_one_line(workspace: Path, tmp_path: Path) -> None:
    data = workspace / "datasets" / "pair"
    ran = medmoe_here(
        "--workspace", workspace, "predict", "-i", data / "imagesTr", "-o", tmp_path / "m",
        "--prompts-from", data / "labelsTr", "--prompt-type", "box",
    )  # fmt: skip
    assert_one_line_error(ran, 2, "box")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("model.adapter=lora", "model.fusion=none", "model.lpeg=off"), ()),
        (("model.adapter=attention", "model.fusion=add"), ()),
        (("model.adapter=attention+mlp", "model.routing_group=image", "model.fusion_attention=all_layers"), ()),
    ],
)
def test_ablations_are_flags(workspace: Path, settings: tuple[str, ...], words: tuple[str, ...]) -> None:
    sets = [part for setting in (*SETTINGS, *settings, "model.train_encoder=off") for part in ("--set", setting)]
    ran = medmoe_here("--workspace", workspace, "train", "--method", "moe-sam", "--data", "pair", "--dry-run", *sets)
    assert ran.code == 0, ran.err
    for word in ("adapters", *words):
        assert word in ran.out
