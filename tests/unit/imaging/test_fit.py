"""Slices on the network's square grid: aspect in mm, half-pixel alignment, labels without new values, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from medmoe_cli.core.imaging.fit import fit_slice, fit_slices
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.separable import box_matrix, resize, resize_matrix
from medmoe_cli.core.imaging.vote import vote

sizes = st.integers(1, 70)
spacings = st.floats(0.2, 8.0)


def pillow(image: np.ndarray, rows: int, cols: int, kind: int) -> np.ndarray:
    """Pillow's float resize: an independent antialiased half-pixel implementation."""
    return np.asarray(PillowImage.fromarray(image.astype(np.float32)).resize((cols, rows), kind))


@pytest.mark.parametrize(("rows", "cols"), [(31, 17), (64, 64), (20, 33), (7, 90), (1, 1), (200, 3)])
def test_resize_is_the_antialiased_one(rows: int, cols: int) -> None:
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    there = pillow(image, rows, cols, PillowImage.Resampling.BILINEAR)
    np.testing.assert_allclose(resize(image, (rows, cols), "linear"), there, atol=2e-5)


@settings(max_examples=60)
@given(n_in=st.integers(1, 30), n_out=st.integers(1, 30))
def test_area_is_the_mean_over_the_pixel(n_in: int, n_out: int) -> None:
    values = np.random.default_rng(n_in).random(n_in)
    fine = np.repeat(values, n_out).reshape(n_out, n_in).mean(axis=1)
    np.testing.assert_allclose(resize(values, (n_out,), "area"), fine, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_box_is_a_moving_average(width: int) -> None:
    values = np.random.default_rng(0).random(20)
    halves = np.repeat(values, 2)  # half pixels, so that even widths are centred
    ours = box_matrix(20, float(width)) @ values
    inner = np.arange(width, 20 - width)
    exact = [halves[2 * i + 1 - width : 2 * i + 1 + width].mean() for i in inner]
    np.testing.assert_allclose(ours[inner], exact, rtol=1e-5)
    np.testing.assert_allclose(box_matrix(20, float(width)).sum(axis=1), 1, rtol=1e-6)


def test_cubic_shrinks_as_pillow_does_and_reproduces_parabolas() -> None:
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    there = pillow(image, 13, 21, PillowImage.Resampling.BICUBIC)
    np.testing.assert_allclose(resize(image, (13, 21), "cubic"), there, atol=2e-5)
    x = np.arange(20) + 0.5
    grown = resize(x**2, (60,), "cubic")
    centres = (np.arange(60) + 0.5) / 3
    np.testing.assert_allclose(grown[9:-9], centres[9:-9] ** 2, rtol=1e-5)


@settings(max_examples=100)
@given(n_in=sizes, n_out=sizes, kernel=st.sampled_from(["nearest", "linear", "cubic", "area"]))
def test_constants_and_centres_stay(n_in: int, n_out: int, kernel: str) -> None:
    matrix = resize_matrix(n_in, n_out, kernel)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    if n_in == n_out:
        np.testing.assert_allclose(matrix.toarray(), np.eye(n_in), atol=1e-6)
    mirrored = matrix.toarray()[::-1, ::-1]
    if kernel != "nearest":
        np.testing.assert_allclose(mirrored, matrix.toarray(), atol=1e-5)
    if kernel in ("linear", "cubic") and n_out >= n_in > 6:  # a ramp stays a ramp away from the border
        ramp = matrix @ (np.arange(n_in) + 0.5)
        inside = slice(3 * n_out // n_in, n_out - 3 * n_out // n_in)
        np.testing.assert_allclose(ramp[inside], ((np.arange(n_out) + 0.5) * n_in / n_out)[inside], rtol=1e-4)


@settings(max_examples=150)
@given(rows=sizes, cols=sizes, row_mm=spacings, col_mm=spacings, size=st.sampled_from([16, 64, 224]))
def test_aspect_is_physical_and_the_long_side_fills(
    rows: int, cols: int, row_mm: float, col_mm: float, size: int
) -> None:
    fit = fit_slice(rows, cols, spacing_mm=(row_mm, col_mm), input_size=size)
    assert max(fit.resized_rows, fit.resized_cols) == size
    assert min(fit.resized_rows, fit.resized_cols) >= 1
    height, width = rows * row_mm, cols * col_mm
    exact_rows, exact_cols = size * height / max(height, width), size * width / max(height, width)
    assert abs(fit.resized_rows - max(exact_rows, 1)) <= 0.5001
    assert abs(fit.resized_cols - max(exact_cols, 1)) <= 0.5001
    image, valid = fit.fit_image(np.ones((2, rows, cols)))
    assert image.shape == (2, size, size)
    assert image.dtype == np.float32
    assert valid.sum() == fit.resized_rows * fit.resized_cols
    np.testing.assert_allclose(image[:, valid], 1, atol=1e-5)
    assert (image[:, ~valid] == 0).all()
    np.testing.assert_allclose(fit.restore(image), 1, atol=1e-5)


@settings(max_examples=100)
@given(
    rows=sizes,
    cols=sizes,
    row_mm=spacings,
    col_mm=spacings,
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_points_and_boxes_go_and_come_back(
    rows: int, cols: int, row_mm: float, col_mm: float, points: list[tuple[float, float]]
) -> None:
    fit = fit_slice(rows, cols, spacing_mm=(row_mm, col_mm), input_size=64)
    native = np.array(points) * [cols, rows]
    there = fit.points_to_input(native)
    np.testing.assert_allclose(fit.points_to_native(there), native, atol=1e-9)
    assert (there <= np.array([fit.resized_cols, fit.resized_rows]) + 1e-9).all()
    boxes = np.concatenate([native, native + 1], axis=1)
    moved = fit.boxes_to_input(boxes)
    np.testing.assert_allclose(moved[:, :2], there)
    np.testing.assert_allclose(fit.boxes_to_native(moved), boxes, atol=1e-9)
    np.testing.assert_allclose(
        fit.boxes_to_input(np.array([[0, 0, cols, rows]])), [[0, 0, fit.resized_cols, fit.resized_rows]]
    )


def test_a_point_lands_on_what_it_marked() -> None:
    """The centre of a bright square is the same place in native and input pixels, to a tenth of a pixel."""
    image = np.zeros((1, 60, 90))
    image[0, 20:31, 70:81] = 1
    fit = fit_slice(60, 90, spacing_mm=(1.5, 0.7), input_size=128)
    fitted = fit.fit_image(image).image[0]
    where = np.argwhere(fitted > 0) + 0.5
    centre = (where * fitted[fitted > 0, None]).sum(axis=0) / fitted.sum()
    np.testing.assert_allclose(centre[::-1], fit.points_to_input(np.array([[75.5, 25.5]]))[0], atol=0.1)


def test_restore_turns_a_blob_back_to_its_place() -> None:
    y, x = np.mgrid[:50, :80] + 0.5
    blob = np.exp(-((y - 20) ** 2 + (x - 60) ** 2) / 60)
    for size in (32, 80, 200):
        fit = fit_slice(50, 80, spacing_mm=(1.0, 1.0), input_size=size)
        back = fit.restore(fit.fit_image(blob[None]).image)[0]
        assert np.abs(back - blob).max() < (0.08 if size == 32 else 0.02)
        np.testing.assert_allclose([(back * y).sum() / back.sum(), (back * x).sum() / back.sum()], [20, 60], atol=0.15)


@settings(max_examples=100)
@given(rows=sizes, cols=sizes, row_mm=spacings, col_mm=spacings, seed=st.integers(0, 999))
def test_labels_get_no_new_values(rows: int, cols: int, row_mm: float, col_mm: float, seed: int) -> None:
    label = np.random.default_rng(seed).choice([0, 3, 9, 200], (rows, cols)).astype(np.uint8)
    fit = fit_slice(rows, cols, spacing_mm=(row_mm, col_mm), input_size=32)
    fitted = fit.fit_label(label)
    assert fitted.dtype == label.dtype
    assert set(np.unique(fitted[fit.valid])) <= set(np.unique(label))
    assert (fitted[~fit.valid] == 0).all()
    constant = fit.fit_label(np.full((rows, cols), 7, np.uint8))
    assert (constant[fit.valid] == 7).all()


@settings(max_examples=60)
@given(
    shape=st.tuples(sizes, sizes),
    new=st.tuples(sizes, sizes),
    kernel=st.sampled_from(["area", "linear"]),
    seed=st.integers(0, 999),
)
def test_vote_is_the_argmax_of_one_hot_maps(
    shape: tuple[int, int], new: tuple[int, int], kernel: str, seed: int
) -> None:
    """Cropped and one class at a time, yet the same as resizing all one-hot maps and taking the largest."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint16)
    for value in (1, 5, 300):
        top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        label[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = value
    if kernel == "area" and all(out >= before for before, out in zip(shape, new, strict=True)):
        return
    values = np.unique(label)
    shares = np.stack([resize(label == value, new, kernel) for value in values])
    voted = vote(label, new, kernel) if shape != new else label
    chosen = np.take_along_axis(shares, np.searchsorted(values, voted)[None], axis=0)[0]
    assert (chosen >= shares.max(axis=0) - 2e-4).all()


def test_shrinking_keeps_the_area_of_a_disc() -> None:
    y, x = np.mgrid[:300, :300]
    disc = ((y - 150) ** 2 + (x - 140) ** 2 < 90**2).astype(np.uint8)
    for size in (300, 150, 75, 40):
        fit = fit_slice(300, 300, spacing_mm=(1.0, 1.0), input_size=size)
        area = fit.fit_label(disc).sum() * (300 / size) ** 2
        assert abs(area / disc.sum() - 1) < 0.02


def test_identity_is_bit_equal() -> None:
    rng = np.random.default_rng(0)
    image, label = rng.random((3, 48, 48)).astype(np.float32), rng.integers(0, 9, (48, 48)).astype(np.uint8)
    fit = fit_slice(48, 48, spacing_mm=(0.8, 0.8), input_size=48)
    np.testing.assert_array_equal(fit.fit_image(image).image, image)
    np.testing.assert_array_equal(fit.fit_label(label), label)
    np.testing.assert_array_equal(fit.restore(image), image)


@pytest.mark.parametrize(("axis", "rows", "cols", "spacing"), [(0, 6, 5, (4, 2)), (1, 6, 4, (4, 1)), (2, 5, 4, (2, 1))])
def test_fit_of_a_volumes_slices(axis: int, rows: int, cols: int, spacing: tuple[float, float]) -> None:
    fit = fit_slices(Geometry.plain((4, 5, 6), (1.0, 2.0, 4.0)), axis, 32)
    assert (fit.rows, fit.cols, fit.spacing_mm) == (rows, cols, spacing)
    row_mm, col_mm = fit.input_spacing_mm
    assert row_mm * fit.resized_rows == pytest.approx(rows * spacing[0])
    assert col_mm * fit.resized_cols == pytest.approx(cols * spacing[1])


def test_another_slice_is_a_mistake() -> None:
    fit = fit_slice(10, 20, spacing_mm=(1.0, 1.0), input_size=16)
    with pytest.raises(ValueError, match="is fitted"):
        fit.fit_image(np.zeros((1, 20, 10)))
    with pytest.raises(ValueError, match="is fitted"):
        fit.fit_label(np.zeros((20, 10), np.uint8))
