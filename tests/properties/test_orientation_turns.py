"""All 48 orientations, straight and oblique: canonical is LPS, nothing is lost, every voxel stays where it was."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.orientation import reorientation_of, to_canonical
from medmoe_cli.core.imaging.slices import slices_first, take_slice, volume_from_slices

SHAPE = (4, 5, 6)
ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
finite = st.floats(-1, 1, allow_nan=False)


def oriented(axes: tuple[int, ...], signs: tuple[int, ...], *, turn: np.ndarray | None = None) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(axes)] * signs) @ np.diag([0.7, 1.5, 4.0])
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (11, -7, 23)
    return Geometry(shape=SHAPE, affine=affine)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """By up to about 23 degrees around each axis."""
    out = np.eye(3)
    for axis, angle in enumerate((0.4 * x, 0.4 * y, 0.4 * z)):
        one, two = [other for other in range(3) if other != axis]
        part = np.eye(3)
        part[one, one] = part[two, two] = np.cos(angle)
        part[one, two], part[two, one] = -np.sin(angle), np.sin(angle)
        out = out @ part
    return out


def test_there_are_48() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_canonical_is_lps_and_back(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    geometry = oriented(axes, signs)
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    turned, canonical, turn = to_canonical(array, geometry)
    assert nib.aff2axcodes(canonical.affine) == ("L", "P", "S")
    assert turned.shape == canonical.shape
    np.testing.assert_array_equal(turn.invert(turned), array)
    assert (np.diag(canonical.affine)[:3] * [-1, -1, 1] > 0).all()
    # The same value at the same place in mm, for every voxel.
    voxels = np.argwhere(np.ones(SHAPE, bool)).astype(float)
    moved = turn.points_to_canonical(voxels)
    np.testing.assert_allclose(canonical.to_mm(moved), geometry.to_mm(voxels), atol=1e-9)
    np.testing.assert_array_equal(turned[tuple(moved.astype(int).T)], array.ravel())
    np.testing.assert_allclose(turn.points_to_source(moved), voxels)


@settings(max_examples=60)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    angles=st.tuples(finite, finite, finite),
    channels=arrays(np.float32, (2, *SHAPE), elements=st.floats(-9, 9, width=32)),
)
def test_oblique_grids_keep_their_obliqueness(
    orientation: tuple[tuple[int, ...], tuple[int, ...]], angles: tuple[float, float, float], channels: np.ndarray
) -> None:
    geometry = oriented(*orientation, turn=rotation(*angles))
    turned, canonical, turn = to_canonical(channels, geometry)
    np.testing.assert_array_equal(turn.invert(turned), channels)
    assert sorted(canonical.spacing_mm) == pytest.approx(sorted(geometry.spacing_mm))
    assert nib.aff2axcodes(canonical.affine) == ("L", "P", "S")
    back = canonical.affine[:3, :3] @ np.linalg.inv(geometry.affine[:3, :3])
    np.testing.assert_allclose(np.abs(np.linalg.det(back)), 1)
    corners = np.array(list(product(*((0, length - 1) for length in SHAPE))), float)
    here = geometry.to_mm(corners)
    there = canonical.to_mm(turn.points_to_canonical(corners))
    np.testing.assert_allclose(here, there, atol=1e-9)


@settings(max_examples=60)
@given(orientation=st.sampled_from(ORIENTATIONS), angles=st.tuples(finite, finite, finite))
def test_canonical_twice_is_canonical_once(
    orientation: tuple[tuple[int, ...], tuple[int, ...]], angles: tuple[float, float, float]
) -> None:
    canonical = reorientation_of(oriented(*orientation, turn=rotation(*angles))).target
    again = reorientation_of(canonical)
    assert again.axes == (0, 1, 2)
    assert again.flipped == (False, False, False)
    np.testing.assert_array_equal(again.target.affine, canonical.affine)


def test_a_canonical_slice_is_the_picture(tmp_path: object) -> None:
    """The patient's left is at the picture's right, the back at its bottom."""
    geometry = oriented((0, 1, 2), (1, 1, 1))  # RAS
    volume = np.zeros(SHAPE)
    volume[0, 0, 2] = 7  # left, back
    turned = to_canonical(volume, geometry).array
    picture = turned[:, :, 2].T
    assert picture[-1, -1] == 7
    np.testing.assert_array_equal(picture, take_slice(turned, 2, 2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_and_back(axis: int) -> None:
    volume = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE)
    slices = slices_first(volume, axis)
    assert slices.shape[1] == SHAPE[axis]
    np.testing.assert_array_equal(volume_from_slices(slices, axis), volume)
    np.testing.assert_array_equal(slices[:, 1], take_slice(volume, axis, 1))


def test_another_grid_is_a_mistake() -> None:
    turn = reorientation_of(oriented((2, 0, 1), (1, -1, 1)))
    with pytest.raises(ValueError, match="on a grid of"):
        turn.apply(np.zeros((6, 5, 4)))
    with pytest.raises(ValueError, match="on a grid of"):
        turn.invert(np.zeros(SHAPE))


def test_plain_pictures_are_canonical() -> None:
    turn = reorientation_of(Geometry.plain((9, 7, 1)))
    assert (turn.axes, turn.flipped) == ((0, 1, 2), (False, False, False))
