"""Validation of a label-map method: its own numbers, its routing, and the rules that the labels suggest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.nn.segmenter import PromptKind
from medmoe_cli.core.workflows.scoring.validate import Validation, run_validate
from tests.tools.bands import LAYERS, Bands, bands_inference
from tests.tools.datasets import write_nifti
from tests.tools.oracle import Oracle, oracle_plan

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
PLAN = oracle_plan(input_size=32, labels={"organ": 1, "vessel": 2})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four cases of one organ and two vessels; the scans show a false organ far away from the true one."""
    root = tmp_path / "datasets" / "shown"
    for number in range(4):
        label = np.zeros((32, 32, 6), np.uint8)
        label[4:14, 4 + number : 14 + number, 1:5] = 1
        label[20:24, 20:24, 1:3] = label[28:31, 20:24, 1:3] = 2
        shown = label / np.float32(2)
        shown[20:24, 2:6, 2:4] = 0.5
        write_nifti(root / "imagesTr" / f"c{number}_0000.nii.gz", shown, AFFINE)
        write_nifti(root / "labelsTr" / f"c{number}.nii.gz", label, AFFINE)
    content = {
        "channel_names": {"0": "scan"},
        "labels": {"background": 0, **PLAN.labels},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def validate(root: Path, inference: Inference, folder: Path, predict: PredictConfig | None = None) -> Validation:
    cases = open_dataset(root).training
    return run_validate(
        cases=cases[:2],
        training=cases[2:],
        dataset=open_dataset(root),
        plan=PLAN,
        inference=inference,
        predict=predict or PredictConfig(),
        folder=folder / "validation",
        reporter=Silent(),
    )


def mask(folder: Path, case: str) -> NDArray[np.uint8]:
    return np.asarray(nib.load(folder / "validation" / "masks" / f"{case}.nii.gz").dataobj)


def test_a_label_map_method_is_scored_per_case_and_class(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "fold"
    found = validate(dataset, bands_inference(), out)
    assert found.masks_prompted_by == "none"
    assert found.ways == ()
    assert not (out / "validation" / "prompts.json").exists()
    summary = json.loads((out / "validation" / "summary.json").read_text())
    assert found.dice_per_class == {
        name: summary["mean"][str(value)]["Dice"] for name, value in (("organ", 1), ("vessel", 2))
    }
    assert found.mean_dice == pytest.approx(np.mean([dice for dice in found.dice_per_class.values() if dice]))


def test_the_false_organ_is_removed_and_the_two_vessels_stay(dataset: Path, tmp_path: Path) -> None:
    after, before = tmp_path / "after", tmp_path / "before"
    found = validate(dataset, bands_inference(), after)
    raw = validate(dataset, bands_inference(), before, PredictConfig(postprocess=False))
    assert [rule.label for rule in found.rules.rules] == ["organ"]
    assert "one component in 2 of 2 training labels" in found.rules.rules[0].reason
    assert raw.rules == found.rules  # learned all the same
    written = json.loads((after / "postprocessing.json").read_text())
    assert written["rules"][0]["keep"] == "largest"
    for case in ("c0", "c1"):
        with_rule, without = mask(after, case), mask(before, case)
        assert (without[20:24, 2:6] == 1).any()
        assert not (with_rule[20:24, 2:6] == 1).any()
        np.testing.assert_array_equal(with_rule == 2, without == 2)
        assert (after / "validation" / "previews" / f"{case}.png").is_file()
    assert found.dice_per_class["organ"] is not None
    assert raw.dice_per_class["organ"] is not None
    assert found.dice_per_class["organ"] > raw.dice_per_class["organ"]
    assert f"Dice {raw.dice_per_class['organ']:.4f} without, {found.dice_per_class['organ']:.4f} with" in (
        found.rules.rules[0].reason
    )


def test_routing_is_counted_over_all_slices(dataset: Path, tmp_path: Path) -> None:
    validate(dataset, bands_inference(), tmp_path / "fold")
    use = json.loads((tmp_path / "fold" / "validation" / "routing.json").read_text())["places"]["feb"]
    # 6 slices, 4 places: expert 0 takes layers 0 and 1, expert 1 layers 1 and 2.
    assert use["cases"] == {case: [[24, 24, 0], [0, 24, 24]] for case in ("c0", "c1")}
    assert (use["kind"], use["num_items"], use["classes"]) == ("experts choose", LAYERS, {})


def test_box_prompted_masks_are_the_users_and_no_rule_touches_them(dataset: Path, tmp_path: Path) -> None:
    """The organ is one piece in training; looked for by name the rule helps, but a box may hold two pieces."""

    class Asked(Oracle):
        @property
        def prompt_kinds(self) -> frozenset[PromptKind]:
            return frozenset({"box", "text"})

    for number in range(2):
        path = dataset / "labelsTr" / f"c{number}.nii.gz"
        label = np.asarray(nib.load(path).dataobj).copy()
        label[label == 2] = 0
        shown = label.astype(np.float32)
        if number == 0:
            shown[20:22, 2:6, 2] = label[20:22, 2:6, 2] = 1  # a true second piece
        else:
            shown[20:24, 2:6, 2:4] = 1  # a false one
        write_nifti(path, label, AFFINE)
        write_nifti(dataset / "imagesTr" / f"c{number}_0000.nii.gz", shown, AFFINE)
    compute = bands_inference().compute
    inference = Inference(Asked(), compute=compute, batch_size=1, queries_per_batch=8)
    found = validate(dataset, inference, tmp_path / "fold")
    assert found.masks_prompted_by == "box"
    assert {way.way for way in found.ways} == {"box", "text", "ellipse"}
    assert (tmp_path / "fold" / "validation" / "prompts.json").is_file()
    assert [rule.label for rule in found.rules.rules] == ["organ"]
    assert (mask(tmp_path / "fold", "c0")[20:22, 2:6, 2] == 1).all()


def test_a_class_of_no_validation_case_has_no_number(dataset: Path, tmp_path: Path) -> None:
    class Blind(Bands):
        """Never finds the vessel."""

        def decode(self, features, prompts):  # type: ignore[no-untyped-def]
            output = super().decode(features, prompts)
            logits = output.logits.clone()
            logits[:, 2] = -1e4
            return replace(output, logits=logits)

    for number in range(2):
        path = dataset / "labelsTr" / f"c{number}.nii.gz"
        label = np.asarray(nib.load(path).dataobj).copy()
        label[label == 2] = 0
        write_nifti(path, label, AFFINE)
    found = validate(dataset, bands_inference(Blind()), tmp_path / "fold")
    assert found.dice_per_class["vessel"] is None
    assert found.dice_per_class["organ"] is not None
