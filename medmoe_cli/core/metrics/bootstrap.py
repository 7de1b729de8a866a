"""Confidence intervals of means by resampling patients.

BCa intervals (Efron, 1987, "Better bootstrap confidence intervals"): the percentiles of the resampled means, moved
for bias and skew. Patients are drawn, with all their cases, because cases of one patient are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from medmoe_cli.core.base.seeds import generator

CONFIDENCE = 0.95
RESAMPLES = 2000
METHOD = "BCa bootstrap over patients"

# Bounds the memory of the drawn counts when there are thousands of patients.
_BLOCK_ENTRIES = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def mean_intervals(
    values_UKC: NDArray[np.float64],
    patients: list[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Interval | None]:
    """Intervals of K statistics, each the mean over C classes of the means over units.

    Args:
        values_UKC: (U, K, C), NaN where a value does not count. A class without values is left out of its statistic.
        patients: (U,) whom each unit is of.
        seed: of the resampling; equal seeds give equal intervals.
        resamples: how often patients are drawn.

    Returns:
        One per statistic; None where fewer than two patients have a value.
    """
    names = sorted(set(patients))
    position = {name: index for index, name in enumerate(names)}
    group_U = np.array([position[name] for name in patients], np.intp)
    filled = ~np.isnan(values_UKC)
    shape = (len(names), *values_UKC.shape[1:])
    sums_GKC, counts_GKC = np.zeros(shape), np.zeros(shape)
    np.add.at(sums_GKC, group_U, np.where(filled, values_UKC, 0.0))
    np.add.at(counts_GKC, group_U, filled.astype(float))
    estimate_K = _statistic(sums_GKC.sum(axis=0)[None], counts_GKC.sum(axis=0)[None])[0]
    left_out_GK = _statistic(sums_GKC.sum(axis=0) - sums_GKC, counts_GKC.sum(axis=0) - counts_GKC)
    replicates_BK = _replicates(sums_GKC, counts_GKC, seed=seed, resamples=resamples)
    usable_K = (counts_GKC.sum(axis=2) > 0).sum(axis=0) >= 2
    return [
        _bca(float(estimate_K[k]), replicates_BK[:, k], left_out_GK[:, k]) if usable_K[k] else None
        for k in range(values_UKC.shape[1])
    ]


def _replicates(
    sums_GKC: NDArray[np.float64],
    counts_GKC: NDArray[np.float64],
    *,
    seed: int,
    resamples: int,
) -> NDArray[np.float64]:
    groups, shape = sums_GKC.shape[0], sums_GKC.shape[1:]
    random = generator("bootstrap", seed)
    block = max(1, _BLOCK_ENTRIES // groups)
    parts: list[NDArray[np.float64]] = []
    for start in range(0, resamples, block):
        drawn_BG = random.multinomial(groups, np.full(groups, 1 / groups), size=min(block, resamples - start))
        weights_BG = drawn_BG.astype(float)
        sums = (weights_BG @ sums_GKC.reshape(groups, -1)).reshape(-1, *shape)
        counts = (weights_BG @ counts_GKC.reshape(groups, -1)).reshape(-1, *shape)
        parts.append(_statistic(sums, counts))
    return np.concatenate(parts)


def _statistic(sums_NKC: NDArray[np.float64], counts_NKC: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K): the mean over classes of the classes' means; NaN where no class has a value."""
    means = np.divide(sums_NKC, counts_NKC, out=np.zeros_like(sums_NKC), where=counts_NKC > 0)
    classes = (counts_NKC > 0).sum(axis=2)
    return np.asarray(np.divide(means.sum(axis=2), classes, out=np.full(classes.shape, np.nan), where=classes > 0))


def _bca(estimate: float, replicates: NDArray[np.float64], left_out: NDArray[np.float64]) -> Interval:
    replicates = replicates[~np.isnan(replicates)]
    left_out = left_out[~np.isnan(left_out)]
    below = (np.count_nonzero(replicates < estimate) + np.count_nonzero(replicates <= estimate)) / 2 / len(replicates)
    tails = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    away = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = float((away**2).sum())
    # Equal values everywhere have nothing to correct: the percentiles are that value.
    if 0 < below < 1 and spread > 0:
        skew = float((away**3).sum()) / (6 * spread**1.5)
        bias = float(ndtri(below))
        moved = bias + ndtri(tails)
        tails = ndtr(bias + moved / (1 - skew * moved))
    low, high = np.quantile(replicates, tails)
    return Interval(low=float(low), high=float(high))
