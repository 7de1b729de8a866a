"""Other resolutions and other grids: values stay in place, labels stay labels, coarse slices are not mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.imaging.resample import (
    coarse_axis,
    resample_image,
    resample_labels,
    resize_image,
    resize_labels,
    resized_geometry,
    shape_at,
)
from tests.tools import niftis

lengths = st.integers(1, 14)
shapes = st.tuples(lengths, lengths, lengths)


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    return Geometry(shape=shape, affine=niftis.affine(degrees=17, spacing=spacing))


def positions(geometry: Geometry) -> np.ndarray:
    """RAS mm of every voxel, (X, Y, Z, 3)."""
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    return geometry.to_mm(voxels.reshape(-1, 3)).reshape(*geometry.shape, 3)


def ball(geometry: Geometry, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.linalg.norm(positions(geometry) - centre_mm, axis=-1) < radius_mm


@settings(max_examples=60)
@given(shape=shapes, new=shapes)
def test_the_box_stays(shape: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    geometry = oblique(shape, (0.7, 1.1, 2.0))
    target = resized_geometry(geometry, new)
    for corner in ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)):  # outer faces, in voxels from the first or last centre
        here = np.where(np.array(corner) < 0, -0.5, np.array(shape) - 0.5)
        there = np.where(np.array(corner) < 0, -0.5, np.array(new) - 0.5)
        np.testing.assert_allclose(geometry.to_mm(here[None]), target.to_mm(there[None]), atol=1e-9)
    assert target.extent_mm == pytest.approx(geometry.extent_mm)


def test_shape_at_a_spacing() -> None:
    geometry = oblique((100, 50, 20), (0.5, 1.0, 5.0))
    assert shape_at(geometry, (1.0, 1.0, 1.0)) == (50, 50, 100)
    assert shape_at(geometry, (500.0, 1.0, 1.0)) == (1, 50, 100)


@pytest.mark.parametrize("kernel", ["linear", "cubic"])
def test_a_ramp_stays_where_it_is(kernel: str) -> None:
    geometry = oblique((16, 18, 14), (1.0, 1.2, 1.5))
    ramp = positions(geometry) @ [1.0, 2.0, -1.0]
    for new in ((24, 27, 21), (11, 18, 9)):
        target = resized_geometry(geometry, new)
        out = resize_image(ramp[None], geometry, new, kernel=kernel)[0]
        inner = (slice(4, -4),) * 3
        np.testing.assert_allclose(out[inner], (positions(target) @ [1.0, 2.0, -1.0])[inner], atol=0.02)


def test_cubic_does_not_overshoot() -> None:
    step = np.zeros((1, 12, 12, 12))
    step[:, 6:] = 100
    out = resize_image(step, Geometry.plain((12, 12, 12)), (31, 31, 31), kernel="cubic")
    assert out.min() == 0
    assert out.max() == 100


def test_coarse_slices_are_not_mixed() -> None:
    """Between 5 mm slices nothing is interpolated: every new slice is one of the old."""
    geometry = Geometry.plain((8, 8, 5), (1.0, 1.0, 5.0))
    assert coarse_axis(geometry.spacing_mm) == 2
    volume = np.zeros((1, 8, 8, 5)) + np.array([0.0, 10, 20, 30, 40])
    out = resize_image(volume, geometry, (16, 16, 25), kernel="cubic")
    assert out[0, 0, 0].tolist() == np.repeat([0, 10, 20, 30, 40], 5).tolist()
    labels = np.zeros((8, 8, 5), np.uint8)
    labels[2:6, 2:6, 2] = 1
    grown = resize_labels(labels, geometry, (16, 16, 25))
    assert sorted(set(np.nonzero(grown)[2].tolist())) == [10, 11, 12, 13, 14]
    finer = Geometry.plain((8, 8, 5), (1.0, 1.0, 3.0))
    assert coarse_axis(finer.spacing_mm) is None
    assert len(np.unique(resize_image(volume, finer, (8, 8, 25), kernel="linear"))) > 5


def test_in_plane_labels_of_a_coarse_volume_are_smooth() -> None:
    geometry = Geometry.plain((32, 32, 3), (1.0, 1.0, 6.0))
    target = resized_geometry(geometry, (96, 96, 3))
    centre = geometry.to_mm(np.array([[15.5, 15.5, 1.0]]))[0]
    grown = resize_labels(ball(geometry, centre, 9.0).astype(np.uint8), geometry, (96, 96, 3))[:, :, 1]
    exact = ball(target, centre, 9.0)[:, :, 1]
    nearest = np.kron(ball(geometry, centre, 9.0)[:, :, 1], np.ones((3, 3)))
    assert (grown != exact).mean() < 0.75 * (nearest != exact).mean()


@settings(max_examples=60)
@given(shape=shapes, new=shapes, seed=st.integers(0, 999), z=st.sampled_from([1.0, 9.0]))
def test_resized_labels_are_labels(shape: tuple[int, int, int], new: tuple[int, int, int], seed: int, z: float) -> None:
    labels = np.random.default_rng(seed).choice([0, 2, 7, 1000], shape).astype(np.uint16)
    out = resize_labels(labels, oblique(shape, (1.0, 1.0, z)), new)
    assert out.shape == new
    assert out.dtype == labels.dtype
    assert set(np.unique(out)) <= set(np.unique(labels))
    same = resize_labels(labels, oblique(shape, (1.0, 1.0, z)), shape)
    np.testing.assert_array_equal(same, labels)


def test_huge_label_values_cost_nothing() -> None:
    labels = np.zeros((6, 6, 6), np.int32)
    labels[2:5, 2:5, 2:5] = 2**31 - 1
    out = resize_labels(labels, Geometry.plain((6, 6, 6)), (12, 12, 12))
    assert set(np.unique(out)) == {0, 2**31 - 1}


SOURCE = oblique((30, 28, 26), (1.0, 1.1, 1.3))
CENTRE = SOURCE.to_mm(np.array([[14.0, 13.0, 12.0]]))[0]


def other_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], degrees: float) -> Geometry:
    affine = niftis.affine(degrees=degrees, spacing=spacing)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    affine[:3, 3] = CENTRE - middle
    return Geometry(shape=shape, affine=affine)


@pytest.mark.parametrize(
    "target",
    [
        other_grid((25, 25, 25), (1.0, 1.0, 1.0), 40),
        other_grid((12, 12, 6), (2.4, 2.4, 4.0), -60),
        other_grid((60, 60, 40), (0.5, 0.5, 0.8), 5),
    ],
    ids=["turned", "coarse", "fine"],
)
def test_onto_another_grid(target: Geometry) -> None:
    smooth = np.exp(-(((positions(SOURCE) - CENTRE) / 7) ** 2).sum(-1))
    exact = np.exp(-(((positions(target) - CENTRE) / 7) ** 2).sum(-1))
    for kernel in ("linear", "cubic"):
        out = resample_image(smooth[None], SOURCE, target, kernel=kernel)[0]
        near = ball(target, CENTRE, 8.0)
        np.testing.assert_allclose(out[near], exact[near], atol=0.06 if target.spacing_mm[2] > 2 else 0.02)
    labels = ball(SOURCE, CENTRE, 8.0) * 5 + ball(SOURCE, CENTRE, 4.0) * 3
    moved = resample_labels(labels.astype(np.uint8), SOURCE, target)
    assert set(np.unique(moved)) == {0, 5, 8}
    for inner, outer in ((np.isin(moved, (5, 8)), 8.0), (moved == 8, 4.0)):
        exact_mask = ball(target, CENTRE, outer)
        dice = 2 * (inner & exact_mask).sum() / (inner.sum() + exact_mask.sum())
        assert dice > (0.85 if target.spacing_mm[2] > 2 else 0.9)


def test_linear_agrees_with_itk_inside() -> None:
    target = other_grid((15, 15, 15), (0.9, 0.9, 0.9), 30)
    data = np.random.default_rng(0).random(SOURCE.shape).astype(np.float32)

    def itk(geometry: Geometry, array: np.ndarray) -> SimpleITK.Image:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
        lps = np.diag([-1, -1, 1, 1]) @ geometry.affine
        image.SetSpacing(geometry.spacing_mm)
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / geometry.spacing_mm).ravel().tolist())
        return image

    theirs = SimpleITK.Resample(
        itk(SOURCE, data), itk(target, np.zeros(target.shape)), SimpleITK.Transform(), SimpleITK.sitkLinear
    )
    ours = resample_image(data[None], SOURCE, target)[0]
    np.testing.assert_allclose(ours, SimpleITK.GetArrayFromImage(theirs).T, atol=1e-5)


def test_outside_is_filled() -> None:
    target = Geometry(shape=(20, 28, 26), affine=SOURCE.affine @ shift(20))
    data = np.full((1, *SOURCE.shape), 3.0)
    data[0, 0, 0, 0] = -1.0
    out = resample_image(data, SOURCE, target)
    assert (out[0, :10] == 3).all()
    assert (out[0, 10:] == -1).all()
    assert (resample_image(data, SOURCE, target, fill=9.0)[0, 10:] == 9).all()
    labels = resample_labels(np.full(SOURCE.shape, 4, np.uint8), SOURCE, target)
    assert (labels[:10] == 4).all()
    assert (labels[11:] == 0).all()


def shift(voxels: float) -> np.ndarray:
    out = np.eye(4)
    out[0, 3] = voxels
    return out


def test_a_grid_far_away_gets_nothing() -> None:
    target = Geometry(shape=(5, 5, 5), affine=SOURCE.affine @ shift(500))
    assert (resample_labels(np.ones(SOURCE.shape, np.uint8), SOURCE, target) == 0).all()


def test_the_same_grid_is_bit_equal() -> None:
    data = np.random.default_rng(0).integers(0, 9, (1, *SOURCE.shape)).astype(np.int16)
    np.testing.assert_array_equal(resample_image(data, SOURCE, SOURCE), data.astype(np.float32))
    np.testing.assert_array_equal(resample_labels(data[0], SOURCE, SOURCE), data[0])


@pytest.mark.realdata
def test_real_flair_comes_to_lie_on_dwi(real_data: Path) -> None:
    """ISLES: the FLAIR's grid is another one; on the DWI's grid the head is where the DWI's head is."""
    folder = next(real_data.glob("isles2022/rawdata/sub-*/ses-*"))
    flair, dwi = (read_image(next(folder.glob(f"*_{name}.nii.gz"))) for name in ("flair", "dwi"))
    assert flair.geometry.differences(dwi.geometry)
    moved = resample_image(flair.data, flair.geometry, dwi.geometry)
    assert moved.shape == dwi.data.shape
    head, reference = moved[0] > 0.1 * moved.max(), dwi.data[0] > 0.1 * dwi.data.max()
    inside = resample_image(np.ones_like(flair.data), flair.geometry, dwi.geometry, fill=0.0)[0] > 0.5
    assert 2 * (head & reference & inside).sum() / ((head & inside).sum() + (reference & inside).sum()) > 0.8
