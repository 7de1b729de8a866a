"""Voxel counts of all classes from one pass over a pair of label maps; Dice and IoU are exact ratios of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Voxels counted at a time: the 8-byte pair codes stay in the processor's cache, and memory stays bounded.
_BLOCK_VOXELS = 1 << 17
# Below this, values index the table of pairs themselves.
_FEW_VALUES = 64
# A label map has few values; beyond this, a table indexed by value would be the larger part of the work.
_LARGEST_TABLE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """True and false, positive and negative voxels of one class."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_reference(self) -> int:
        """Voxels of the class in the reference."""
        return self.tp + self.fn

    @property
    def n_prediction(self) -> int:
        """Voxels of the class in the prediction."""
        return self.tp + self.fp

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN when both masks are empty."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else float("nan")

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); NaN when both masks are empty."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCounts:
    """How many voxels have which value in the reference and which in the prediction.

    Attributes:
        values: (K,) int64, the values that occur, ascending.
        table: (K, K) int64, voxels by reference value (row) and predicted value (column).
    """

    values: NDArray[np.int64]
    table: NDArray[np.int64]

    def of(self, values: Iterable[int]) -> Counts:
        """The counts of a class, or of a region of several values."""
        inside = np.isin(self.values, list(values))
        tp = int(self.table[np.ix_(inside, inside)].sum())
        reference, prediction = int(self.table[inside].sum()), int(self.table[:, inside].sum())
        return Counts(
            tp=tp,
            fp=prediction - tp,
            fn=reference - tp,
            tn=int(self.table.sum()) - reference - prediction + tp,
        )


def count_pairs(
    reference: NDArray[np.integer], prediction: NDArray[np.integer], *, ignore: int | None = None
) -> PairCounts:
    """Count the pairs of values in one pass.

    Args:
        reference: label map of any shape.
        prediction: label map of the same shape.
        ignore: a reference value whose voxels are left out of every count.

    Raises:
        ValueError: shapes differ, or a value is negative.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"label maps of shapes {reference.shape} and {prediction.shape}")
    order: Literal["C", "F"] = "F" if reference.flags.f_contiguous and prediction.flags.f_contiguous else "C"
    left, right = reference.ravel(order), prediction.ravel(order)
    highest = _range(left, right)[1]
    if highest < _FEW_VALUES:
        values, index = np.arange(highest + 1), None
    else:
        values = present_values(left, right)
        index = np.zeros(highest + 1, np.intp) if highest < _LARGEST_TABLE else None
    if index is not None:
        index[values] = np.arange(len(values))
    number = len(values)
    flat = np.zeros(number * number, np.int64)
    for start in range(0, left.size, _BLOCK_VOXELS):
        pair = [part[start : start + _BLOCK_VOXELS] for part in (left, right)]
        size = pair[0].size
        # Most of a scan is background in both maps: only the rest is looked up.
        filled = np.flatnonzero((pair[0] | pair[1]) != 0)
        if len(filled) < size:
            flat[0] += size - len(filled)
            pair = [part[filled] for part in pair]
        if index is not None:
            pair = [index[part] for part in pair]
        elif highest >= _FEW_VALUES:
            pair = [np.searchsorted(values, part) for part in pair]
        flat += np.bincount(pair[0].astype(np.intp) * number + pair[1], minlength=number * number)
    table = flat.reshape(number, number)
    occurs = (table.sum(axis=0) + table.sum(axis=1)) > 0
    values, table = values[occurs], table[np.ix_(occurs, occurs)]
    if ignore is not None:
        table[values == ignore] = 0
    return PairCounts(values=values, table=table)


def present_values(*labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The values that occur in the label maps, ascending.

    Raises:
        ValueError: a value is negative.
    """
    _, highest = _range(*labels)
    if highest >= _LARGEST_TABLE:
        return np.unique(np.concatenate([np.unique(array) for array in labels])).astype(np.int64)
    seen = np.zeros(highest + 1, bool)
    for array in labels:
        seen[array] = True
    return np.flatnonzero(seen).astype(np.int64)


def _range(*labels: NDArray[np.integer]) -> tuple[int, int]:
    """The lowest and the highest value; (0, -1) of nothing."""
    filled = [array for array in labels if array.size]
    if not filled:
        return 0, -1
    lowest, highest = min(int(array.min()) for array in filled), max(int(array.max()) for array in filled)
    if lowest < 0:
        raise ValueError(f"label maps have no negative values, {lowest} found")
    return lowest, highest
