"""Channels come out in [0, 1] as the plan says; nothing becomes NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.plan import ChannelPlan
from medmoe_cli.core.imaging.normalize import normalize, normalize_channel

CT = ChannelPlan(name="CT", normalization="ct", low=-100.0, high=300.0)
PERCENTILE = ChannelPlan(name="T1", normalization="percentile")
RGB = ChannelPlan(name="R", normalization="rgb")
NONE = ChannelPlan(name="map", normalization="none")


def test_ct() -> None:
    out = normalize_channel(np.array([-1000, -100, 100, 300, 3000], np.int16), CT)
    np.testing.assert_allclose(out, [0, 0, 0.5, 1, 1])
    assert out.dtype == np.float32


def test_percentile_ignores_a_few_outliers() -> None:
    values = np.linspace(0, 100, 10_001)
    values[5] = 1e6
    out = normalize_channel(values, PERCENTILE)
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(out, np.clip((values - low) / (high - low), 0, 1), atol=1e-6)


def test_rgb_and_none() -> None:
    np.testing.assert_allclose(normalize_channel(np.array([0, 51, 255], np.uint8), RGB), [0, 0.2, 1])
    assert normalize_channel(np.array([-7, 1000]), NONE).tolist() == [-7, 1000]


def test_zscore_counts_what_is_above_zero() -> None:
    values = np.array([0, -5, 10, 20, 30], np.int16)
    out = normalize_channel(values, ChannelPlan(name="T1", normalization="zscore"))
    np.testing.assert_allclose(out, (values - 20) / np.std([10, 20, 30]), rtol=1e-6)
    clipped = normalize_channel(
        np.array([-3000, -1000, 500, 1500, 3000], np.int16),
        ChannelPlan(name="CT", normalization="zscore", low=-1000.0, high=1000.0),
    )
    mean, deviation = np.mean([500, 1000, 1000]), np.std([500, 1000, 1000])
    np.testing.assert_allclose(clipped, (np.array([-1000, -1000, 500, 1000, 1000]) - mean) / deviation, rtol=1e-6)
    assert clipped.dtype == np.float32


@pytest.mark.parametrize("values", [[7, 7, 7], [0, 0, 0], [0, 5, 5], [-4, -4], [0.1, 0.1, 0.1]])
def test_zscore_of_a_constant_image_is_zero(values: list[float]) -> None:
    out = normalize_channel(np.array(values), ChannelPlan(name="T1", normalization="zscore"))
    assert (out == 0).all()


def test_zscore_without_anything_above_zero_counts_all() -> None:
    out = normalize_channel(np.array([-30.0, -20, -10]), ChannelPlan(name="CT", normalization="zscore"))
    np.testing.assert_allclose(out, np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-6)


@pytest.mark.parametrize("plan", [CT, PERCENTILE, RGB])
@pytest.mark.parametrize("value", [0, 7, -5000])
def test_constant_images_are_not_nan(plan: ChannelPlan, value: int) -> None:
    out = normalize_channel(np.full((4, 4), value, np.int16), plan)
    assert np.isfinite(out).all()
    if plan is PERCENTILE:
        assert (out == 0).all()


def test_an_empty_window_gives_zeros() -> None:
    plan = ChannelPlan(name="CT", normalization="ct", low=5.0, high=5.0)
    assert (normalize_channel(np.arange(10), plan) == 0).all()


@settings(max_examples=100)
@given(
    values=arrays(np.float64, (3, 5), elements=st.floats(-1e6, 1e6)),
    low=st.floats(-1e5, 1e5),
    width=st.floats(1e-3, 1e5),
)
def test_always_between_0_and_1(values: np.ndarray, low: float, width: float) -> None:
    plan = ChannelPlan(name="CT", normalization="ct", low=low, high=low + width)
    for channel in (plan, PERCENTILE, RGB):
        out = normalize_channel(values, channel)
        assert np.isfinite(out).all()
        assert out.min() >= 0
        assert out.max() <= 1
    exact = np.clip((values - low) / (plan.high - plan.low), 0, 1)
    np.testing.assert_allclose(normalize_channel(values, plan), exact, atol=2e-2 if width < 1 else 1e-3)


def test_narrow_windows_far_from_zero_keep_their_steps() -> None:
    plan = ChannelPlan(name="CT", normalization="ct", low=1e6, high=1e6 + 10)
    out = normalize_channel(1e6 + np.arange(11.0), plan)
    np.testing.assert_allclose(out, np.arange(11) / 10, atol=1e-6)


def test_channels_match_the_plan() -> None:
    data = np.zeros((2, 3, 3, 1), np.int16)
    assert normalize(data, (CT, PERCENTILE)).shape == data.shape
    with pytest.raises(DataError, match="the image has 2, the plan 1"):
        normalize(data, (CT,))
    with pytest.raises(ValueError, match="needs low and high"):
        normalize_channel(data[0], ChannelPlan(name="CT", normalization="ct"))


def test_the_input_is_left_alone() -> None:
    values = np.array([1.0, 2.0, 3.0], np.float32)
    normalize_channel(values, PERCENTILE)
    normalize_channel(values, NONE)[:] = 9
    assert values.tolist() == [1, 2, 3]
