"""Intensity statistics in one pass: bounded memory, mergeable, independent of the order of the cases.

Bins are intervals [i * 2^e, (i + 1) * 2^e) of one exponent e. When the values no longer fit into `MAX_BINS` bins, e
grows by one and neighbouring pairs of bins are added up, which loses nothing: the result is the histogram that the
coarser bins would have counted in the first place. A percentile is therefore wrong by at most one bin, 2 / MAX_BINS
of the range of the values. Mean and variance are exact (Chan, Golub and LeVeque's merging of moments).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.fingerprint import ChannelStatistics

MAX_BINS = 1 << 16
_MANTISSA_BITS = 52


@dataclass(kw_only=True, slots=True)
class Histogram:
    """Counts of values in at most `MAX_BINS` equal bins, with exact moments and extremes.

    Attributes:
        exponent: bins are 2^exponent wide.
        first: index of the first bin; it starts at first * 2^exponent.
        counts: int64 per bin.
        num_values, mean, squares: the number, the mean, and the sum of squared deviations from the mean.
        minimum, maximum: the extremes.
    """

    exponent: int = 0
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    num_values: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    def merge(self, other: Histogram) -> None:
        """Add the values of another histogram."""
        if other.num_values == 0:
            return
        total = self.num_values + other.num_values
        shift = other.mean - self.mean
        self.squares += other.squares + shift * shift * self.num_values * other.num_values / total
        self.mean += shift * other.num_values / total
        lowest, highest = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        exponent = _exponent(lowest, highest)
        first = _index(lowest, exponent)
        counts = np.zeros(_index(highest, exponent) - first + 1, np.int64)
        for part in (self, other):
            if part.num_values:
                occupied = np.flatnonzero(part.counts)
                bins = ((occupied + part.first) >> min(exponent - part.exponent, 63)) - first
                np.add.at(counts, bins, part.counts[occupied])
        self.exponent, self.first, self.counts = exponent, first, counts
        self.num_values, self.minimum, self.maximum = total, lowest, highest

    def percentile(self, percent: float) -> float:
        """The value below which `percent` of the values lie, as numpy's linear method places it, within one bin."""
        if self.num_values == 0:
            raise ValueError("no values")
        rank = percent / 100 * (self.num_values - 1)
        low, high = self._value_at(math.floor(rank)), self._value_at(math.ceil(rank))
        return low + (high - low) * (rank - math.floor(rank))

    def statistics(self) -> ChannelStatistics:
        """The summary that the fingerprint keeps."""
        return ChannelStatistics(
            mean=self.mean,
            std=math.sqrt(self.squares / self.num_values),
            minimum=self.minimum,
            maximum=self.maximum,
            percentile_00_5=self.percentile(0.5),
            percentile_50=self.percentile(50),
            percentile_99_5=self.percentile(99.5),
            num_voxels=self.num_values,
        )

    def _value_at(self, rank: int) -> float:
        """The rank-th smallest value (0-based): its bin's start, which integers in bins of width <= 1 lie on."""
        cumulative = np.cumsum(self.counts)
        position = int(np.searchsorted(cumulative, rank, side="right"))
        start = math.ldexp(self.first + position, self.exponent)
        return min(max(start, self.minimum), self.maximum)


def count(values: NDArray[np.generic]) -> Histogram:
    """Histogram of finite values of any shape and real type."""
    flat = np.asarray(values).ravel()
    if flat.size == 0:
        return Histogram()
    lowest, highest = float(flat.min()), float(flat.max())
    exponent = _exponent(lowest, highest)
    first = _index(lowest, exponent)
    exact = flat.astype(np.float64, copy=False)
    bins = np.floor(np.ldexp(exact, -exponent)).astype(np.int64) - first
    mean = float(exact.mean())
    return Histogram(
        exponent=exponent,
        first=first,
        counts=np.bincount(bins, minlength=_index(highest, exponent) - first + 1).astype(np.int64),
        num_values=int(flat.size),
        mean=mean,
        squares=float(np.square(exact - mean).sum()),
        minimum=lowest,
        maximum=highest,
    )


def _exponent(lowest: float, highest: float) -> int:
    """The finest bins that hold the range in `MAX_BINS` and whose indices are exact; never falls as the range grows."""
    magnitude = max(abs(lowest), abs(highest))
    exact = math.frexp(magnitude)[1] - _MANTISSA_BITS if magnitude > 0 else -1022
    exponent = exact
    if highest > lowest:
        exponent = max(exponent, math.frexp((highest - lowest) / MAX_BINS)[1] - 2)
    while _index(highest, exponent) - _index(lowest, exponent) + 1 > MAX_BINS:
        exponent += 1
    return exponent


def _index(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))
