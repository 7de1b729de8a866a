"""What a network is shown of an image: normalised lazily, once per volume, at the precision of the stored files."""

from __future__ import annotations

import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.plan import ChannelPlan
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.data.volume import prepare_volume
from medmoe_cli.core.imaging.geometry import Geometry
from tests.tools.plans import image_of, slice_plan

WHERE = Geometry.plain((24, 18, 6), (1.0, 1.0, 3.0))


def channel(kind: str, **window: float) -> ChannelPlan:
    return ChannelPlan(name="x", normalization=kind, **window)  # type: ignore[arg-type]


def test_windows_are_the_whole_images() -> None:
    data = np.random.default_rng(0).normal(200, 90, (1, *WHERE.shape))
    data[0, :, :, 5] += 1000
    prepared = prepare(image_of(data, WHERE), slice_plan(input_size=24))
    low, high = np.percentile(data, (0.5, 99.5))
    expected = np.clip((data[0, :, :, 2].T - low) / (high - low), 0, 1)
    assert np.allclose(prepared.native_slice(2)[0], expected, atol=1e-6)
    shown = prepared.slice(2)
    assert shown.image.dtype == np.float32
    assert (shown.image == shown.image.astype(np.float16)).all()
    assert np.allclose(shown.image[0, :18], expected, atol=1e-3)
    assert shown.valid[:18].all()
    assert not shown.valid[18:].any()
    assert (shown.image[0, 18:] == 0).all()


def test_each_channel_by_its_own_rule() -> None:
    data = np.stack([np.full(WHERE.shape, value, np.float32) for value in (50.0, 51.0, 0.25, 9.0)])
    data[3, 0] = 4.0
    plan = slice_plan(
        input_size=24,
        channels=[channel("ct", low=0.0, high=200.0), channel("rgb"), channel("none"), channel("percentile")],
    )
    image = prepare(image_of(data, WHERE), plan).slice(0).image
    assert np.allclose(image[0, :18], 0.25, atol=1e-3)
    assert np.allclose(image[1, :18], 0.2, atol=1e-3)
    assert np.allclose(image[2, :18], 0.25)
    assert image[3, :18].min() == 0
    assert image[3, :18].max() == 1


def test_a_constant_image_is_zeros() -> None:
    shown = prepare(image_of(np.full((1, *WHERE.shape), 7, np.int16), WHERE), slice_plan(input_size=32)).slice(3)
    assert (shown.image == 0).all()


def test_refusals() -> None:
    two = np.zeros((2, *WHERE.shape), np.float32)
    with pytest.raises(DataError, match=r"wrong number of channels.*has 2, the plan 1 \(MR\)"):
        prepare(image_of(two, WHERE), slice_plan())
    large = np.full((1, *WHERE.shape), 1e6, np.float32)
    with pytest.raises(DataError, match=r"half precision.*plan.normalization=percentile"):
        prepare(image_of(large, WHERE), slice_plan(channels=[channel("none")])).slice(0)
    with pytest.raises(ValueError, match="2D methods"):
        prepare(image_of(large, WHERE), slice_plan(spacing_mm=(1.0, 1.0, 1.0)))


def test_pixels_come_out_square_in_mm() -> None:
    where = Geometry.plain((30, 40, 4), (2.0, 1.0, 5.0))
    prepared = prepare(image_of(np.zeros((1, 30, 40, 4)), where), slice_plan(input_size=64))
    assert (prepared.fit.resized_rows, prepared.fit.resized_cols) == (43, 64)
    row_mm, col_mm = prepared.fit.input_spacing_mm
    assert row_mm == pytest.approx(col_mm, rel=0.02)


def test_nothing_is_copied_before_it_is_asked_for() -> None:
    data = np.zeros((1, 64, 64, 50), np.int16)
    image = image_of(data, Geometry(shape=(64, 64, 50), affine=np.diag([1.0, -1, 2, 1])))
    plan = slice_plan(channels=[channel("ct", low=0.0, high=1.0)])
    assert np.shares_memory(prepare(image, plan).slices_CNHW, data)


def test_volumes_keep_their_box_and_come_back() -> None:
    affine = np.array([[0, 0, 1.0, 3], [2.0, 0, 0, 0], [0, -1.5, 0, 9], [0, 0, 0, 1]])
    where = Geometry(shape=(20, 24, 30), affine=affine)
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in where.shape], indexing="ij"))
    label = ((((grid - 0.5) / 0.3) ** 2).sum(axis=0) <= 1).astype(np.uint8)
    label[(((grid - 0.5) / 0.12) ** 2).sum(axis=0) <= 1] = 2
    image = image_of(label[None] * 100.0, where)
    volume = prepare_volume(image, slice_plan(spacing_mm=(1.0, 1.0, 1.0)))
    assert volume.image.shape == (1, 36, 40, 30)  # z, y, x: 24 * 1.5, 20 * 2.0, 30 * 1.0 mm
    assert volume.spacing_mm == pytest.approx((1.0, 1.0, 1.0))
    fitted = volume.fit_label(label)
    assert fitted.shape == (36, 40, 30)
    assert set(np.unique(fitted)) == {0, 1, 2}
    inside, outside = volume.image[0][fitted == 2].mean(), volume.image[0][fitted == 0].mean()
    assert inside > 0.9
    assert outside < 0.1
    back = volume.restore(np.stack([fitted == value for value in range(3)]).astype(np.float32)).argmax(axis=0)
    for value in (1, 2):
        mask, found = label == value, back == value
        assert 2 * (mask & found).sum() / (mask.sum() + found.sum()) > 0.97
