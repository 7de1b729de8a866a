"""Slices and back, for all 48 orientations: labels return where they were, landmarks within half a pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared, prepare
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.slices import slices_first
from tests.tools.plans import image_of, slice_plan

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
SHAPE = (20, 17, 9)


def geometry(
    orientation: tuple[tuple[int, ...], tuple[int, ...]],
    spacing: tuple[float, float, float],
    *,
    tilt_degrees: float = 0,
    shape: tuple[int, int, int] = SHAPE,
) -> Geometry:
    """File axis k runs along world axis order[k], up or down, with spacing[k]; the world may be tilted."""
    order, signs = orientation
    matrix = np.zeros((3, 3))
    for axis in range(3):
        matrix[order[axis], axis] = signs[axis] * spacing[axis]
    angle = np.deg2rad(tilt_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tip @ matrix
    affine[:3, 3] = (12.5, -40.0, 7.0)
    return Geometry(shape=shape, affine=affine)


def blobs(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Two ellipsoids, values 1 and 2."""
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"))
    centre = np.random.default_rng(seed).uniform(0.35, 0.5, (3, 1, 1, 1))
    label = np.zeros(shape, np.uint8)
    label[(((grid - centre) / 0.28) ** 2).sum(axis=0) <= 1] = 1
    label[(((grid - centre - 0.2) / 0.2) ** 2).sum(axis=0) <= 1] = 2
    return label


def there_and_back(prepared: Prepared, label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The label through the network's grid as a perfect network would give it, back on the file's grid."""
    slices = prepared.label_slices(label)
    out = np.empty(slices.shape, np.int64)
    for index in range(prepared.num_slices):
        fitted = prepared.fit.fit_label(slices[index])
        one_hot = np.stack([fitted == value for value in range(3)]).astype(np.float32)
        out[index] = prepared.restore(one_hot).argmax(axis=0)
    return np.asarray(prepared.to_file_grid(out))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("tilt_degrees", [0, 9])
def test_every_orientation(slice_axis: int, tilt_degrees: float) -> None:
    random = np.random.default_rng(slice_axis)
    for orientation in ORIENTATIONS:
        where = geometry(orientation, (1.0, 1.0, 1.0), tilt_degrees=tilt_degrees)
        data = random.normal(size=(1, *SHAPE)).astype(np.float32)
        label = blobs(SHAPE)
        canonical_shape = tuple(np.array(SHAPE)[np.argsort(orientation[0])])
        longest = max(canonical_shape[axis] for axis in range(3) if axis != slice_axis)
        prepared = prepare(image_of(data, where), slice_plan(input_size=longest, slice_axis=slice_axis))
        assert prepared.num_slices == canonical_shape[slice_axis]
        # Native size: bit for bit.
        back = there_and_back(prepared, label)
        assert back.shape == SHAPE
        assert (back == label).all()
        # Any point of the volume is found on its slice, and returns.
        voxels = random.uniform(-0.4, np.array(SHAPE) - 0.6, (6, 3))
        places = prepared.to_slices(voxels)
        again = prepared.to_voxels(places.index_N, prepared.fit.points_to_native(places.input_N2))
        assert np.abs(again - voxels).max() <= 0.5 + 1e-9
        whole = np.rint(voxels)
        exact = prepared.to_slices(whole)
        assert np.allclose(prepared.to_voxels(exact.index_N, exact.native_N2), whole)
        # The pixel under a voxel's centre shows that voxel.
        for voxel, index, (x, y) in zip(whole.astype(int), exact.index_N, exact.native_N2, strict=True):
            assert prepared.slices_CNHW[0, index, int(y), int(x)] == data[0][tuple(voxel)]


@settings(max_examples=25)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    slice_axis=st.integers(0, 2),
    size=st.integers(32, 100),
    spacing=st.tuples(*[st.floats(0.6, 3.0)] * 3),
    seed=st.integers(0, 999),
)
def test_resized_labels_stay_in_place(
    orientation: tuple[tuple[int, ...], tuple[int, ...]],
    slice_axis: int,
    size: int,
    spacing: tuple[float, float, float],
    seed: int,
) -> None:
    shape = (40, 36, 30)
    label = blobs(shape, seed)
    where = geometry(orientation, spacing, shape=shape)
    image = image_of(np.zeros((1, *shape), np.float32), where)
    prepared = prepare(image, slice_plan(input_size=size, slice_axis=slice_axis))
    x, y = prepared.fit.scale_xy
    back = there_and_back(prepared, label)
    for value in (1, 2):
        mask, found = label == value, back == value
        # These blobs are about 20 pixels wide; what is lost is at most half a network pixel at the rim.
        assert dice(mask, found) > (0.96 if min(x, y) >= 1 else 0.85)
        centre = np.argwhere(mask).mean(axis=0) - np.argwhere(found).mean(axis=0)
        assert np.abs(centre).max() < 0.5


def test_a_landmark_returns_through_the_pixels() -> None:
    """The peak of a smooth spot, found on the network's grid, is the voxel it was put at."""
    where = geometry(((2, 0, 1), (1, -1, 1)), (1.2, 0.9, 2.0), tilt_degrees=7, shape=(30, 41, 12))
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in where.shape], indexing="ij"))
    for target in ((7, 12, 3), (22, 30, 8), (15, 5, 6)):
        distance = ((grid - np.array(target)[:, None, None, None]) ** 2).sum(axis=0)
        data = np.exp(-distance / 8.0)[None].astype(np.float32)
        for slice_axis in range(3):
            prepared = prepare(image_of(data, where), slice_plan(input_size=96, slice_axis=slice_axis))
            pictures = np.stack([prepared.slice(index).image[0] for index in range(prepared.num_slices)])
            top = np.argwhere(pictures >= pictures.max() - 1e-3).mean(axis=0)
            native = prepared.fit.points_to_native(np.array([[top[2] + 0.5, top[1] + 0.5]]))
            found = prepared.to_voxels(np.array([top[0]]), native)[0]
            assert np.abs(found - target).max() <= 0.5


def test_axial_slices_lie_as_displayed() -> None:
    """On an axial slice of a file stored R, A, S: columns run to the left, rows to the back."""
    data = np.zeros((1, 10, 8, 3), np.float32)
    data[0, 9, 7, 1] = 1  # the patient's right... RAS: +x is right, +y is front: right front
    where = Geometry(shape=(10, 8, 3), affine=np.diag([1.0, 1.0, 4.0, 1.0]))
    prepared = prepare(image_of(data, where), slice_plan(input_size=10))
    assert (prepared.slices_CNHW[0, 1] == slices_first(prepared.turn.apply(data), 2)[0, 1]).all()
    assert np.argwhere(prepared.slices_CNHW[0]).tolist() == [[1, 0, 0]]  # top left, as radiologists look at it
