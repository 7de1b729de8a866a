"""Nearest places: every search against all pairs, near and far, sparse and dense."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medmoe_cli.core.metrics.nearest import Search, nearest_mm

SEARCHES: tuple[Search, ...] = ("auto", "near", "tree", "transform")


def _places(seed: int, number: int, side: int, dims: int, *, start: int = 0) -> NDArray[np.int32]:
    drawn = np.random.default_rng(seed).integers(start, start + side, (number, dims))
    return np.unique(drawn, axis=0).T.astype(np.int32)


def _all_pairs(origin: NDArray[np.int32], target: NDArray[np.int32], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    return np.asarray(cdist(origin.T * np.asarray(spacing), target.T * np.asarray(spacing)).min(axis=1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("number", "side", "start"),
    [
        pytest.param(300, 9, 0, id="dense"),
        pytest.param(40, 60, 0, id="sparse"),
        pytest.param(150, 12, 40, id="far apart"),
        pytest.param(1, 30, 3, id="one"),
    ],
)
def test_equals_all_pairs(search: Search, dims: int, number: int, side: int, start: int) -> None:
    for seed, spacing in enumerate([(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.1, 0.3, 1.7)]):
        origin = _places(seed, number, side, dims)
        target = _places(seed + 100, number, side, dims, start=start)
        found = nearest_mm(origin, target, spacing[:dims], search=search)
        np.testing.assert_allclose(found, _all_pairs(origin, target, spacing[:dims]), rtol=1e-12)


def test_searches_agree_to_the_last_bit_on_a_smooth_surface() -> None:
    """Two bent sheets that cross, touch and part: some places are near, some beyond the neighbourhood."""
    x, y = np.mgrid[0:40, 0:40]
    low = np.stack([x, y, 20 + 0 * x]).reshape(3, -1).astype(np.int32)
    high = np.stack([x, y, 20 + (x * y) // 50]).reshape(3, -1).astype(np.int32)
    spacing = (0.8, 0.9, 1.1)
    found = [nearest_mm(low, high, spacing, search=search) for search in SEARCHES]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-15)
    assert (found[0] == 0).any()
    assert found[0].max() > 7 * 0.8


@pytest.mark.parametrize("search", SEARCHES)
def test_nothing_is_infinitely_far(search: Search) -> None:
    some, none = np.zeros((3, 2), np.int32), np.zeros((3, 0), np.int32)
    assert nearest_mm(some, none, (1.0, 1.0, 1.0), search=search).tolist() == [np.inf, np.inf]
    assert nearest_mm(none, some, (1.0, 1.0, 1.0), search=search).tolist() == []
