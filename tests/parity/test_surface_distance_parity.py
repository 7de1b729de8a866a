"""Distances equal DeepMind's `surface-distance`, 2-D and 3-D, on any spacing, however they are searched for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.metrics.surface import Search, SurfaceDistances, surface_distances
from tests.tools.masks import SPACINGS, blobs, mask_pairs, spacings

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

TOLERANCE = 1e-6
PERCENTS = (50, 95, 99)


@pytest.fixture(autouse=True, scope="module")
def _names_numpy_has_dropped() -> None:
    """surface-distance 0.1 says np.Inf and np.NaN where a mask is empty."""
    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        if not hasattr(np, name):
            setattr(np, name, value)


@settings(max_examples=120)
@given(pair=mask_pairs(), spacing_mm=spacings(), search=st.sampled_from(["near", "tree", "transform"]))
def test_volumes(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], spacing_mm: tuple[float, ...], search: Search
) -> None:
    _compare(*pair, spacing_mm, search)


@settings(max_examples=80)
@given(pair=mask_pairs(dims=2), spacing_mm=spacings(2), search=st.sampled_from(["near", "tree", "transform"]))
def test_pictures(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], spacing_mm: tuple[float, ...], search: Search
) -> None:
    _compare(*pair, spacing_mm, search)


def test_five_hundred_pairs_of_blobs() -> None:
    for seed in range(500):
        random = np.random.default_rng(seed)
        shape = tuple(int(n) for n in random.integers(4, 14, 3))
        first, second = blobs(
            seed, shape, share=float(random.uniform(0.02, 0.5)), difference=float(random.uniform(0, 1))
        )
        if seed % 25 == 0:
            first[:] = False
        if seed % 40 == 0:
            second[:] = False
        _compare(first, second, SPACINGS[seed % len(SPACINGS)], "auto")


def _compare(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: tuple[float, ...], search: Search
) -> None:
    ours = surface_distances(reference, prediction, spacing_mm, search=search)
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    if not (reference.any() and prediction.any()):
        _compare_empty(ours, theirs)
        return
    for percent in PERCENTS:
        expected = surface_distance.compute_robust_hausdorff(theirs, percent)
        assert ours.robust_hausdorff_mm(percent) == pytest.approx(expected, abs=TOLERANCE)
    assert ours.hausdorff_mm == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 100), abs=TOLERANCE)
    for tolerance_mm in (0.5, 1.0, 2.0):
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert ours.surface_dice(tolerance_mm) == pytest.approx(expected, abs=TOLERANCE)
    averages = surface_distance.compute_average_surface_distance(theirs)
    assert ours.average_mm == pytest.approx(averages, abs=TOLERANCE)
    weights = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    assert ours.average_symmetric_mm == pytest.approx(np.average(averages, weights=weights), abs=TOLERANCE)


def _compare_empty(ours: SurfaceDistances, theirs: dict[str, NDArray[np.float64]]) -> None:
    """The elements agree; what an empty mask means is this project's policy, so distances are undefined."""
    np.testing.assert_allclose(ours.reference_mm, theirs["distances_gt_to_pred"])
    np.testing.assert_allclose(ours.prediction_mm, theirs["distances_pred_to_gt"])
    assert math.isnan(ours.hausdorff_mm)
    assert math.isnan(ours.robust_hausdorff_mm(95))
    assert math.isnan(ours.average_symmetric_mm)
    assert all(map(math.isnan, ours.average_mm))
    if ours.reference_sizes.size or ours.prediction_sizes.size:
        assert ours.surface_dice(2.0) == 0
    else:
        assert math.isnan(ours.surface_dice(2.0))
