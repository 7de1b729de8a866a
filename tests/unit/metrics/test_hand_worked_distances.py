"""Distances and overlaps of masks whose answers can be worked out by hand.

A single voxel has eight marching-cubes elements, one at each of its corners, all of the same area; a single pixel has
four. Two voxels that are n apart along an axis of spacing s then have four elements each at n s and four at (n - 1) s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from medmoe_cli.core.metrics.overlap import count_pairs
from medmoe_cli.core.metrics.surface import surface_distances


def _mask(shape: Sequence[int], *voxels: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(tuple(shape), bool)
    for voxel in voxels:
        mask[tuple(voxel)] = True
    return mask


SHIFTS = [
    (axis, steps, spacing)
    for axis in range(3)
    for steps in (1, 2, 5)
    for spacing in ((1.0, 1.0, 1.0), (0.5, 2.0, 4.0), (0.7, 0.7, 5.0))
]


@pytest.mark.parametrize(("axis", "steps", "spacing"), SHIFTS)
def test_two_voxels_along_an_axis(axis: int, steps: int, spacing: Sequence[float]) -> None:
    start, end = [2, 2, 2], [2, 2, 2]
    end[axis] += steps
    found = surface_distances(_mask((9, 9, 9), start), _mask((9, 9, 9), end), spacing)
    near, far = (steps - 1) * spacing[axis], steps * spacing[axis]
    assert found.hausdorff_mm == pytest.approx(far)
    assert found.robust_hausdorff_mm(95) == pytest.approx(far)
    assert found.robust_hausdorff_mm(40) == pytest.approx(near)
    assert found.average_symmetric_mm == pytest.approx((near + far) / 2)
    assert found.surface_dice(near + 1e-9) == pytest.approx(0.5)
    assert found.surface_dice(far + 1e-9) == 1
    assert found.surface_dice(near - 1e-9) == 0


@pytest.mark.parametrize("steps", [(1, 1), (3, 0), (0, 4), (2, 3)])
def test_two_pixels(steps: tuple[int, int]) -> None:
    spacing = (2.0, 0.5)
    found = surface_distances(_mask((8, 8), (1, 1)), _mask((8, 8), (1 + steps[0], 1 + steps[1])), spacing)
    gaps = [(max(a, 0), max(b, 0)) for a in (steps[0], steps[0] - 1) for b in (steps[1], steps[1] - 1)]
    expected = sorted(math.hypot(a * spacing[0], b * spacing[1]) for a, b in gaps)
    np.testing.assert_allclose(found.reference_mm, expected)
    assert found.hausdorff_mm == pytest.approx(expected[-1])


def test_one_stray_voxel_moves_hd_but_not_hd95() -> None:
    plate = _mask((20, 20, 12))
    plate[2:16, 2:16, 2] = True
    stray = plate.copy()
    stray[8, 8, 10] = True
    found = surface_distances(plate, stray, (1, 1, 1))
    assert found.hausdorff_mm == 8
    assert found.robust_hausdorff_mm(95) == 0
    assert found.average_mm[0] == 0


def test_parallel_plates() -> None:
    """Two flat sheets of one voxel, three slices apart: all the front's elements are 3 away, but the facing one's."""
    first, second = _mask((12, 12, 8)), _mask((12, 12, 8))
    first[2:10, 2:10, 2] = True
    second[2:10, 2:10, 5] = True
    found = surface_distances(first, second, (1, 1, 2.5))
    assert found.hausdorff_mm == pytest.approx(7.5)
    assert found.average_symmetric_mm == pytest.approx((7.5 + 5.0) / 2)
    assert found.surface_dice(5.0) == pytest.approx(0.5)


def test_contour_of_a_square() -> None:
    square = _mask((10, 10))
    square[2:7, 2:7] = True
    found = surface_distances(square, square, (1.0, 2.0))
    corners = 4 * 0.5 * math.sqrt(5)
    assert found.reference_sizes.sum() == pytest.approx(2 * 4 * 1.0 + 2 * 4 * 2.0 + corners)


def test_border_voxels_are_those_with_an_outside_face() -> None:
    cube = _mask((7, 7, 7))
    cube[1:6, 1:6, 1:6] = True
    found = surface_distances(cube, cube, (1, 1, 1), elements="voxels")
    assert len(found.reference_mm) == 5**3 - 3**3


def test_masks_at_the_images_border_have_a_surface_there() -> None:
    whole = np.ones((4, 4, 4), bool)
    found = surface_distances(whole, whole, (1, 1, 1))
    assert len(found.reference_mm) == 5**3 - 3**3


@pytest.mark.parametrize(
    ("reference", "prediction", "dice", "iou"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0, 1.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0, 0.0),
        ([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3, 1 / 2),
        ([1, 1, 0, 0], [1, 1, 1, 1], 2 / 3, 1 / 2),
        ([1, 1, 1, 0], [0, 1, 1, 1], 2 / 3, 1 / 2),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.0, 0.0),
        ([0, 0, 0, 0], [0, 1, 0, 0], 0.0, 0.0),
    ],
)
def test_overlap(reference: list[int], prediction: list[int], dice: float, iou: float) -> None:
    counts = count_pairs(np.array(reference), np.array(prediction)).of((1,))
    assert counts.dice == dice
    assert counts.iou == iou
    assert counts.tp + counts.fp + counts.fn + counts.tn == 4


def test_overlap_of_nothing_is_undefined() -> None:
    counts = count_pairs(np.zeros(5, int), np.zeros(5, int)).of((1,))
    assert math.isnan(counts.dice)
    assert math.isnan(counts.iou)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (0, 0, 0, 5)
