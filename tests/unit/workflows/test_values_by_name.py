"""Masks that number their classes otherwise than a model, or than each other, are understood by the classes' names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.workflows.evaluate import EvaluationSummary, ScoredClass, run_evaluate
from medmoe_cli.core.workflows.predicting.mask_values import mask_values
from medmoe_cli.core.workflows.predicting.requests import FromMasks
from tests.tools.datasets import write_nifti
from tests.tools.oracle import oracle_plan
from tests.tools.volume_oracle import oracle_volume_plan

AFFINE = np.diag([-1.5, -1.5, 1.5, 1.0])
MERGED = {"head": 1, "tail": 2, "blob": 3, "drop": 4}


def masks(
    folder: Path, names: dict[str, object] | None, values: tuple[int, ...] = (1, 2), *, inside: bool = True
) -> Path:
    """One label map with a block per value, and a dataset.json in the folder or beside it."""
    labels = np.zeros((40, 36, 30), np.uint8)
    for place, value in enumerate(values):
        labels[4 + 12 * place : 12 + 12 * place, 6:16, 8:18] = value
    write_nifti(folder / "scan.nii.gz", labels, AFFINE)
    if names is not None:
        content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **names}}
        ((folder if inside else folder.parent) / "dataset.json").write_text(json.dumps(content))
    return folder


def dice_by_class(summary: EvaluationSummary) -> dict[str, float]:
    return {one.scored.name: one.statistics["Dice"].mean for one in summary.aggregate.classes}


@pytest.mark.parametrize("inside", [True, False])
def test_names_say_which_value_is_meant(tmp_path: Path, inside: bool) -> None:
    folder = masks(tmp_path / "data" / "labelsTr", {"blob": 1, "drop": 2}, inside=inside)
    plan = oracle_volume_plan(MERGED)
    assert mask_values(folder, plan) == {1: 3, 2: 4}
    write_nifti(tmp_path / "scans" / "scan.nii.gz", np.zeros((40, 36, 30), np.float32), AFFINE)
    scan = prepare_scan(read_image(tmp_path / "scans" / "scan.nii.gz"), plan)
    assert isinstance(scan, VolumeScan)
    source = FromMasks(folder, plan, kind="box", clicks=0, mask_size=(16, 16, 16))
    asked = source.volume_requests("scan", scan)
    assert [request.value for request in asked] == [3, 4]
    assert [request.prompt.box and request.prompt.box[0] for request in asked] == [4.0, 16.0]
    assert set(np.unique(source.slices("scan", scan)).tolist()) == {0, 3, 4}


def test_what_masks_name_and_the_model_does_not_know_is_not_asked(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", {"head": 2, "spine": 1, "ignore": 9}, (1, 2, 9))
    plan = oracle_plan(labels={"head": 1})
    assert mask_values(folder, plan) == {1: 0, 2: 1, 9: 0}


@pytest.mark.parametrize("names", [None, {"left thing": 1, "right thing": 2}, {"whole": [1, 2], "core": 2}])
def test_without_a_shared_name_values_are_the_models(tmp_path: Path, names: dict[str, object] | None) -> None:
    folder = masks(tmp_path / "masks", names)
    plan = oracle_plan(labels={"a": 1, "b": 2}).model_copy(update={"file_labels": {"a": 5, "b": 7}})
    assert mask_values(folder, plan) == {5: 1, 7: 2}


def test_a_value_that_nobody_names_is_refused(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", {"blob": 1}, (1, 2))
    write_nifti(tmp_path / "scans" / "scan.nii.gz", np.zeros((40, 36, 30), np.float32), AFFINE)
    scan = prepare_scan(read_image(tmp_path / "scans" / "scan.nii.gz"), oracle_volume_plan(MERGED))
    source = FromMasks(folder, oracle_volume_plan(MERGED), kind="box", clicks=0, mask_size=(16, 16, 16))
    with pytest.raises(DataError, match="unexpected label values"):
        source.requests_of("scan", scan)


def test_the_identity_of_a_request_knows_what_its_values_mean(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", {"blob": 1, "drop": 2})
    plan = oracle_volume_plan(MERGED)
    before = FromMasks(folder, plan, kind="box", clicks=0, mask_size=(16, 16, 16)).identity("scan")
    masks(folder, {"drop": 1, "blob": 2})
    assert FromMasks(folder, plan, kind="box", clicks=0, mask_size=(16, 16, 16)).identity("scan") != before


def test_predictions_are_scored_by_name(tmp_path: Path) -> None:
    """What a merged model wrote, against the labels of one of its datasets; what only the model knows is background."""
    predicted = masks(tmp_path / "predicted", dict(MERGED), (3, 4, 1))
    expected = masks(tmp_path / "data" / "labelsTr", {"blob": 1, "drop": 2}, (1, 2), inside=False)
    summary = run_evaluate(predictions=predicted, references=expected, workers=1, reporter=Silent())
    assert dice_by_class(summary) == {"blob": 1.0, "drop": 1.0}
    # Said by value, values are what they are.
    classes = (ScoredClass(name="first", values=(1,)),)
    summary = run_evaluate(predictions=predicted, references=expected, classes=classes, workers=1, reporter=Silent())
    assert dice_by_class(summary) == {"first": 0.0}


def test_predictions_that_are_numbered_alike_are_left_alone(tmp_path: Path) -> None:
    predicted = masks(tmp_path / "predicted", {"blob": 1, "drop": 2}, (2, 1))
    expected = masks(tmp_path / "data" / "labelsTr", {"blob": 1, "drop": 2}, (1, 2), inside=False)
    summary = run_evaluate(predictions=predicted, references=expected, workers=1, reporter=Silent())
    assert dice_by_class(summary) == {"blob": 0.0, "drop": 0.0}
