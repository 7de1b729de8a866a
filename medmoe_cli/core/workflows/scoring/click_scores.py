"""What clicks did to masks: Dice by case, class and number of clicks, as numbers, JSON and curves.

Shapes: U cases, N clicks, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.metrics.bootstrap import CONFIDENCE, METHOD, RESAMPLES, Interval, mean_intervals
from medmoe_cli.core.reporting.click_curve import ClickCurve, draw_click_curves

SCHEMA_VERSION = 1
OVERALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickScore:
    """Mean Dice after so many clicks; NaN where no case counts.

    Attributes:
        clicks: given for each structure (2D models: on each slice that shows it).
        mean: over cases (overall: the mean over classes of their means).
        interval: 95 % confidence interval over patients; None below two patients.
        n_used: cases whose reference has the class.
        n_total: all cases.
    """

    clicks: int
    mean: float
    interval: Interval | None
    n_used: int
    n_total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassClicks:
    """One class's curve; `value` is its label value, None for all classes together."""

    name: str
    value: int | None
    scores: tuple[ClickScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseClicks:
    """One case: by class name, Dice after each click; classes that its reference lacks are left out.

    Attributes:
        dice: by class name.
        num_clicked: by class name, on how many slices (or volumes) it was clicked.
    """

    case_id: str
    dice: Mapping[str, tuple[float, ...]]
    num_clicked: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickSummary:
    """The result.

    Attributes:
        models: where the weights came from.
        method: of the (first) model.
        dims: 2 where each slice is clicked, 3 where each volume is.
        num_clicks: N.
        classes: a curve per class.
        overall: the mean over classes.
        cases: Dice of every case.
        seed: of the confidence intervals.
        picture: the curves as a PNG; None when nothing was written.
    """

    models: tuple[str, ...]
    method: str
    dims: int
    num_clicks: int
    classes: tuple[ClassClicks, ...]
    overall: ClassClicks
    cases: tuple[CaseClicks, ...]
    seed: int
    picture: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of clicks.json, strict JSON values only."""
        plain: dict[str, Any] = jsonio.plain(
            {
                "schema_version": SCHEMA_VERSION,
                "models": self.models,
                "method": self.method,
                "num_clicks": self.num_clicks,
                "clicked": "each slice that shows the structure" if self.dims == 2 else "each structure of a volume",
                "first_click": "central",
                "next_clicks": "middle of the largest error",
                "metric": "Dice of each structure's own mask, over the scan at its own resolution",
                "confidence": {"level": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": self.seed},
                "n_cases": len(self.cases),
                "labels": {str(item.value): item.name for item in self.classes},
                "classes": {str(item.value): _curve(item) for item in self.classes},
                "overall": _curve(self.overall),
                "cases": [
                    {"case": case.case_id, "dice": case.dice, "num_clicked": case.num_clicked} for case in self.cases
                ],
            }
        )
        return plain


def click_curves(
    cases: Sequence[CaseClicks], plan: Plan, *, clicks: int, patients: Mapping[str, str], seed: int
) -> tuple[tuple[ClassClicks, ...], ClassClicks]:
    """A curve per class that any reference has, and the mean over these classes.

    Args:
        cases: one for each scan.
        plan: of the model, which names and numbers the classes.
        clicks: how many each structure got.
        patients: by case; one that is not named is a patient of its own.
        seed: of the confidence intervals.
    """
    names = [name for name in plan.class_names if any(name in case.dice for case in cases)]
    whom = [patients.get(case.case_id, case.case_id) for case in cases]
    nothing = (float("nan"),) * clicks
    values_UNC = np.array([[case.dice.get(name, nothing) for name in names] for case in cases], np.float64)
    values_UNC = values_UNC.reshape(len(cases), len(names), clicks).transpose(0, 2, 1)
    classes = tuple(
        _class_curve(name, plan.file_names[name], values_UNC[:, :, [index]], whom, seed=seed)
        for index, name in enumerate(names)
    )
    return classes, _class_curve(OVERALL, None, values_UNC, whom, seed=seed)


def _class_curve(
    name: str, value: int | None, values_UNC: NDArray[np.float64], whom: list[str], *, seed: int
) -> ClassClicks:
    num_cases, num_clicks, num_classes = values_UNC.shape
    if not num_classes:
        return ClassClicks(name=name, value=value, scores=())
    intervals = mean_intervals(values_UNC, whom, seed=seed)
    counted = ~np.isnan(values_UNC)
    means_NC = np.where(counted, values_UNC, 0).sum(axis=0) / counted.sum(axis=0)
    used = int(counted[:, 0].sum())
    return ClassClicks(
        name=name,
        value=value,
        scores=tuple(
            ClickScore(
                clicks=index + 1,
                mean=float(means_NC[index].mean()),
                interval=intervals[index],
                n_used=used,
                n_total=num_cases * num_classes,
            )
            for index in range(num_clicks)
        ),
    )


def _curve(item: ClassClicks) -> dict[str, Any]:
    return {
        "name": item.name,
        "clicks": [
            {
                "clicks": score.clicks,
                "mean": score.mean,
                "ci95": None if score.interval is None else [score.interval.low, score.interval.high],
                "n_used": score.n_used,
                "n_total": score.n_total,
            }
            for score in item.scores
        ],
    }


def draw_clicks(summary: ClickSummary, path: Path) -> Path:
    """The curves as a picture."""
    shown = [*summary.classes, *([summary.overall] if len(summary.classes) > 1 else [])]
    curves = [
        ClickCurve(
            name=f"mean of {len(summary.classes)} classes" if item.value is None else item.name,
            value=item.value,
            means=tuple(score.mean for score in item.scores),
            intervals=tuple(
                None if score.interval is None else (score.interval.low, score.interval.high) for score in item.scores
            ),
        )
        for item in shown
    ]
    where = "each slice" if summary.dims == 2 else "each volume"
    title = f"{summary.method}: Dice after clicks on {where}, {len(summary.cases)} cases"
    return draw_click_curves(path, curves, title=title)
