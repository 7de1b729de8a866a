"""summary.json: nnU-Net's keys (foreground_mean, mean, metric_per_case), and beside them what they leave out.

A program that reads nnU-Net's file reads this one. Undefined values are null: strict JSON has no NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.metrics.aggregate import Aggregate, ClassAggregate, MeanCounts, Statistic
from medmoe_cli.core.metrics.bootstrap import CONFIDENCE, METHOD, RESAMPLES
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.conventions import Convention
from medmoe_cli.core.metrics.overlap import Counts
from medmoe_cli.core.metrics.scores import ClassScores, UnitScores

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseFiles:
    """The two files of a case."""

    case_id: str
    reference: Path
    prediction: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSummary:
    """The result of an evaluation.

    Attributes:
        convention: what the numbers follow.
        classes: what was scored.
        tolerances: of NSD.
        cases: the files, in the order of `units`' cases.
        units: the scores of every case (or slice, where the convention says so).
        aggregate: means over them.
        seed: of the bootstrap.
    """

    convention: Convention
    classes: tuple[ScoredClass, ...]
    tolerances: Tolerances
    cases: tuple[CaseFiles, ...]
    units: tuple[UnitScores, ...]
    aggregate: Aggregate
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The content of summary.json, strict JSON values only."""
        files = {case.case_id: case for case in self.cases}
        plain: dict[str, Any] = jsonio.plain(
            {
                "schema_version": SCHEMA_VERSION,
                "convention": _convention(self.convention),
                "labels": {scored.key: scored.name for scored in self.classes},
                "tolerance_mm": self._tolerances(),
                "confidence": {
                    "level": CONFIDENCE,
                    "method": METHOD,
                    "resamples": RESAMPLES,
                    "seed": self.seed,
                },
                "n_cases": len(self.cases),
                "n_units": len(self.units),
                "foreground_mean": _means(self.aggregate.overall, self.aggregate.counts),
                "mean": {item.scored.key: _means(item.statistics, item.counts) for item in self.aggregate.classes},
                "overall": {name: _statistic(value) for name, value in self.aggregate.overall.items()},
                "classes": {item.scored.key: _class(item) for item in self.aggregate.classes},
                "metric_per_case": [_unit(unit, files[unit.case_id]) for unit in self.units],
            }
        )
        return plain

    def _tolerances(self) -> dict[str, float] | None:
        if all(column.name != "NSD" for column in self.convention.columns):
            return None
        return {scored.key: self.tolerances.of(scored) for scored in self.classes}


def _convention(convention: Convention) -> dict[str, Any]:
    return {
        "name": convention.name,
        "description": convention.description,
        "empty_masks": convention.empty_masks,
        "overall": convention.overall,
        "metrics": {
            column.name: {"unit": column.unit, "definition": column.definition} for column in convention.columns
        },
    }


def _means(statistics: Mapping[str, Statistic], counts: MeanCounts) -> dict[str, float]:
    return {name: value.mean for name, value in statistics.items()} | _counts(counts)


def _counts(counts: Counts | MeanCounts) -> dict[str, float]:
    return {
        "TP": counts.tp,
        "FP": counts.fp,
        "FN": counts.fn,
        "TN": counts.tn,
        "n_pred": counts.n_prediction,
        "n_ref": counts.n_reference,
    }


def _statistic(value: Statistic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "mean": value.mean,
        "median": value.median,
        "std": value.std,
        "n_used": value.n_used,
        "n_total": value.n_total,
        "ci95": None if value.interval is None else [value.interval.low, value.interval.high],
    }
    if value.penalised_mean is not None:
        found["penalised_mean"] = value.penalised_mean
    return found


def _class(item: ClassAggregate) -> dict[str, Any]:
    return {
        "name": item.scored.name,
        "values": item.scored.values,
        "n_true_negative": item.num_true_negative,
        "n_missed": item.num_missed,
        "n_false_positive": item.num_false_positive,
        "n_units": item.num_units,
        "metrics": {name: _statistic(value) for name, value in item.statistics.items()},
    }


def _unit(unit: UnitScores, files: CaseFiles) -> dict[str, Any]:
    place = {} if unit.slice_index is None else {"slice": unit.slice_index}
    return {
        "case": unit.case_id,
        **place,
        "reference_file": files.reference,
        "prediction_file": files.prediction,
        "metrics": {item.key: _class_scores(item) for item in unit.classes},
    }


def _class_scores(item: ClassScores) -> dict[str, Any]:
    return {**item.values, **_counts(item.counts), "presence": item.presence.value}
