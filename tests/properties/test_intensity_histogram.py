"""The streaming histogram against numpy on all values at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.data.histogram import MAX_BINS, Histogram, count

KINDS = ("int16", "uint8", "float32", "float64", "tiny", "shifted", "skewed", "constant", "huge")


def draw(kind: str, seed: int, size: int) -> NDArray[np.generic]:
    random = np.random.default_rng(seed)
    if kind == "int16":
        return random.integers(-1024, 3072, size).astype(np.int16)
    if kind == "uint8":
        return random.integers(0, 256, size).astype(np.uint8)
    if kind == "tiny":
        return random.normal(0, 1e-12, size)
    if kind == "shifted":
        return random.normal(1e6, 1e-3, size)
    if kind == "skewed":
        return random.lognormal(0, 2, size).astype(np.float32)
    if kind == "constant":
        return np.full(size, random.normal() * 1e3)
    if kind == "huge":
        return random.integers(-(2**31), 2**31, size)
    return random.normal(100, 30, size).astype(kind)


@settings(max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    seed=st.integers(0, 1 << 20),
    size=st.integers(1, 3000),
    percent=st.floats(0, 100),
)
def test_merged_parts_equal_all_values(kinds: list[str], seed: int, size: int, percent: float) -> None:
    parts = [draw(kind, seed + number, size) for number, kind in enumerate(kinds)]
    everything = np.concatenate([part.astype(np.float64) for part in parts])
    merged = Histogram()
    for part in parts:
        merged.merge(count(part))
    assert merged.counts.size <= MAX_BINS
    assert int(merged.counts.sum()) == merged.num_values == everything.size
    span = float(np.ptp(everything))
    for wanted in (0.0, 0.5, 50.0, 99.5, 100.0, percent):
        assert abs(merged.percentile(wanted) - np.percentile(everything, wanted)) <= 1e-3 * span
    statistics = merged.statistics()
    assert statistics.minimum == everything.min()
    assert statistics.maximum == everything.max()
    assert abs(statistics.mean - everything.mean()) <= 1e-9 * (abs(everything.mean()) + span)
    assert abs(statistics.std - everything.std()) <= 1e-6 * span
    backwards = Histogram()
    for part in reversed(parts):
        backwards.merge(count(part))
    assert (backwards.exponent, backwards.first) == (merged.exponent, merged.first)
    assert (backwards.counts == merged.counts).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20), low=st.integers(-2000, 0), span=st.integers(1, 4000))
def test_percentiles_of_whole_numbers_are_exact(seed: int, low: int, span: int) -> None:
    values = np.random.default_rng(seed).integers(low, low + span, 2001).astype(np.int16)
    histogram = count(values)
    for percent in (0.5, 25.0, 50.0, 99.5):
        assert abs(histogram.percentile(percent) - np.percentile(values, percent)) < 1e-9
