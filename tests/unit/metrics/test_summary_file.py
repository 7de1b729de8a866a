"""summary.json: what a reader of nnU-Net's file finds in it, and strict JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.metrics.aggregate import aggregate
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.conventions import CONVENTIONS, convention
from medmoe_cli.core.metrics.scores import LabelPair
from medmoe_cli.core.metrics.summary import CaseFiles, EvaluationSummary
from tests.tools.masks import label_maps

CLASSES = (
    ScoredClass(name="liver", values=(1,)),
    ScoredClass(name="whole", values=(1, 2)),
    ScoredClass(name="nowhere", values=(7,)),
)
NNUNET_METRICS = {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}


def _summary(name: str) -> dict[str, Any]:
    rules = convention(name)
    units, cases = [], []
    for seed in range(3):
        reference, prediction = label_maps(seed, (8, 7, 5), classes=2)
        pair = LabelPair(case_id=f"c{seed}", reference=reference, prediction=prediction, spacing_mm=(1.0, 1.0, 2.0))
        units += rules.score(pair, CLASSES, Tolerances(by_name_mm={"liver": 1.0}))
        cases.append(CaseFiles(case_id=f"c{seed}", reference=Path(f"g/c{seed}.nii.gz"), prediction=Path("p/x.nii.gz")))
    return EvaluationSummary(
        convention=rules,
        classes=CLASSES,
        tolerances=Tolerances(by_name_mm={"liver": 1.0}),
        cases=tuple(cases),
        units=tuple(units),
        aggregate=aggregate(units, CLASSES, rules, patients={}),
        seed=0,
    ).to_json()


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_has_all_of_nnunets_keys(name: str) -> None:
    found = _summary(name)
    assert {"foreground_mean", "mean", "metric_per_case"} <= found.keys()
    wanted = NNUNET_METRICS - ({"IoU"} if name == "transunet" else set())
    assert wanted <= found["foreground_mean"].keys()
    assert set(found["mean"]) == {"1", "(1, 2)", "7"}
    assert all(wanted <= found["mean"][key].keys() for key in found["mean"])
    for row in found["metric_per_case"]:
        assert {"reference_file", "prediction_file", "metrics"} <= row.keys()
        assert row["reference_file"].startswith("g/")
        assert all(wanted <= row["metrics"][key].keys() for key in ("1", "(1, 2)", "7"))


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_is_strict_json_and_names_its_convention(name: str) -> None:
    found = _summary(name)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(jsonio.dumps(found), parse_constant=refuse) == found
    assert found["convention"]["name"] == name
    assert found["convention"]["empty_masks"]
    assert set(found["convention"]["metrics"]) == set(found["overall"])


def test_undefined_is_null_and_counted() -> None:
    found = _summary("medmoe")
    assert found["mean"]["7"]["Dice"] is None
    assert found["classes"]["7"]["n_true_negative"] == 3
    assert found["classes"]["7"]["metrics"]["Dice"] == {
        "mean": None,
        "median": None,
        "std": None,
        "n_used": 0,
        "n_total": 3,
        "ci95": None,
    }
    assert found["metric_per_case"][0]["metrics"]["7"]["presence"] == "true_negative"
    assert np.isclose(
        found["foreground_mean"]["Dice"], (found["mean"]["1"]["Dice"] + found["mean"]["(1, 2)"]["Dice"]) / 2
    )
    assert _summary("nnunet")["foreground_mean"]["Dice"] is None


def test_tolerances_are_written_where_nsd_is() -> None:
    assert _summary("medmoe")["tolerance_mm"] == {"1": 1.0, "(1, 2)": 2.0, "7": 2.0}
    assert _summary("nnunet")["tolerance_mm"] is None


def test_slices_are_named() -> None:
    rows = _summary("segmote")["metric_per_case"]
    assert {row["case"] for row in rows} == {"c0", "c1", "c2"}
    assert [row["slice"] for row in rows[:5]] == [0, 1, 2, 3, 4]
    assert "slice" not in _summary("medmoe")["metric_per_case"][0]
