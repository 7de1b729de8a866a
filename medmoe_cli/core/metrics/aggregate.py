"""Means over cases and classes, with how many values they rest on and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.metrics.bootstrap import Interval, mean_intervals
from medmoe_cli.core.metrics.classes import ScoredClass
from medmoe_cli.core.metrics.conventions import Convention
from medmoe_cli.core.metrics.overlap import Counts
from medmoe_cli.core.metrics.policy import Presence
from medmoe_cli.core.metrics.scores import UnitScores

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """A metric over units. NaN where no value counts.

    Attributes:
        mean: of the values that count; for the overall statistic as the convention combines classes.
        median: of the same values (overall: of the units' means over classes).
        std: sample standard deviation of those; NaN below two.
        n_used: values that count.
        n_total: values there could be.
        interval: 95 % confidence interval of the mean; None below two patients.
        penalised_mean: the mean with undefined distances counted as the image's diagonal; None for metrics that have
            no such penalty.
    """

    mean: float
    median: float
    std: float
    n_used: int
    n_total: int
    interval: Interval | None
    penalised_mean: float | None


@dataclass(frozen=True, slots=True)
class MeanCounts:
    """Voxel counts averaged over units, as nnU-Net's summary has them."""

    tp: float
    fp: float
    fn: float
    tn: float
    n_prediction: float
    n_reference: float

    @classmethod
    def over(cls, counts: Sequence[Counts | MeanCounts]) -> MeanCounts:
        """The mean of each count."""
        rows = [(item.tp, item.fp, item.fn, item.tn, item.n_prediction, item.n_reference) for item in counts]
        return cls(*np.mean(rows, axis=0).tolist())


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAggregate:
    """One class over all units.

    Attributes:
        scored: the class.
        statistics: by column.
        counts: mean voxel counts.
        num_true_negative: units without the class in either mask.
        num_missed: units with the class in the reference only.
        num_false_positive: units with the class in the prediction only.
        num_units: all units whose reference labels the class.
    """

    scored: ScoredClass
    statistics: Mapping[str, Statistic]
    counts: MeanCounts
    num_true_negative: int
    num_missed: int
    num_false_positive: int
    num_units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """All classes, and one statistic per column over all of them."""

    classes: tuple[ClassAggregate, ...]
    overall: Mapping[str, Statistic]
    counts: MeanCounts


def aggregate(
    units: Sequence[UnitScores],
    classes: Sequence[ScoredClass],
    convention: Convention,
    *,
    patients: Mapping[str, str],
    seed: int = 0,
) -> Aggregate:
    """Combine the scores of all units.

    Args:
        units: at least one; each class is labelled in one of them.
        classes: in the order of each unit's scores.
        convention: how classes are combined.
        patients: case to patient; a case that is not listed is its own patient.
        seed: of the bootstrap.
    """
    if not units:
        raise ValueError("nothing to aggregate")
    values_UKC = _table(units, convention, penalised=False)
    penalised_UKC = _table(units, convention, penalised=True)
    whom = [patients.get(unit.case_id, unit.case_id) for unit in units]
    num_units, num_columns, num_classes = values_UKC.shape
    known_UC = np.array([[item.presence is not Presence.UNKNOWN for item in unit.classes] for unit in units])
    intervals = mean_intervals(values_UKC.reshape(num_units, num_columns * num_classes, 1), whom, seed=seed)
    found = tuple(
        ClassAggregate(
            scored=scored,
            statistics={
                column.name: _statistic(
                    values_UKC[known_UC[:, c], k, c],
                    interval=intervals[k * num_classes + c],
                    penalised_mean=_mean(penalised_UKC[:, k, c]) if column.penalised else None,
                )
                for k, column in enumerate(convention.columns)
            },
            counts=MeanCounts.over(
                [unit.classes[c].counts for unit, known in zip(units, known_UC[:, c], strict=True) if known]
            ),
            num_true_negative=_count(units, c, Presence.TRUE_NEGATIVE),
            num_missed=_count(units, c, Presence.MISSED),
            num_false_positive=_count(units, c, Presence.FALSE_POSITIVE),
            num_units=int(known_UC[:, c].sum()),
        )
        for c, scored in enumerate(classes)
    )
    return Aggregate(
        classes=found,
        overall=_overall(values_UKC, penalised_UKC, convention, whom, seed=seed),
        counts=MeanCounts.over([item.counts for item in found]),
    )


def _table(units: Sequence[UnitScores], convention: Convention, *, penalised: bool) -> NDArray[np.float64]:
    """(U, K, C): units, columns, classes."""
    names = [column.name for column in convention.columns]
    return np.array(
        [
            [
                [
                    item.penalised.get(name, item.values[name]) if penalised else item.values[name]
                    for item in unit.classes
                ]
                for name in names
            ]
            for unit in units
        ],
        float,
    )


def _overall(
    values_UKC: NDArray[np.float64],
    penalised_UKC: NDArray[np.float64],
    convention: Convention,
    whom: list[str],
    *,
    seed: int,
) -> dict[str, Statistic]:
    units_UK = _mean_along(values_UKC, axis=2)
    by_unit = convention.overall == "units"
    intervals = mean_intervals(units_UK[:, :, None] if by_unit else values_UKC, whom, seed=seed)
    found = {}
    for k, column in enumerate(convention.columns):
        values_UC = values_UKC[:, k]
        by_class_C = _mean_along(values_UC, axis=0)
        mean = _mean(units_UK[:, k] if by_unit else by_class_C)
        if convention.overall == "all-classes" and np.isnan(by_class_C).any():
            mean = _NAN
        spread = _statistic(units_UK[:, k], interval=None if np.isnan(mean) else intervals[k], penalised_mean=None)
        found[column.name] = replace(
            spread,
            mean=mean,
            n_used=int((~np.isnan(values_UC)).sum()),
            n_total=values_UC.size,
            penalised_mean=_mean(_mean_along(penalised_UKC[:, k], axis=0)) if column.penalised else None,
        )
    return found


def _statistic(values: NDArray[np.float64], *, interval: Interval | None, penalised_mean: float | None) -> Statistic:
    used = values[~np.isnan(values)]
    return Statistic(
        mean=_mean(used),
        median=float(np.median(used)) if len(used) else _NAN,
        std=float(used.std(ddof=1)) if len(used) > 1 else _NAN,
        n_used=len(used),
        n_total=len(values),
        interval=interval,
        penalised_mean=penalised_mean,
    )


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN where there is nothing."""
    return float(_mean_along(values, axis=0))


def _mean_along(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    filled = ~np.isnan(values)
    number = filled.sum(axis=axis)
    total = np.where(filled, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, number, out=np.full(np.shape(number), np.nan), where=number > 0))


def _count(units: Sequence[UnitScores], position: int, where: Presence) -> int:
    return sum(unit.classes[position].presence is where for unit in units)
