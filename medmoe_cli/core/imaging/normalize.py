"""Intensities to the network's range, as the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.plan import ChannelPlan

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5


def normalize(data_CXYZ: NDArray[Any], channels: Sequence[ChannelPlan]) -> NDArray[np.float32]:
    """Normalise every channel of an image (axes after the first are free).

    Raises:
        DataError: the image has another number of channels than the plan.
    """
    if len(data_CXYZ) != len(channels):
        names = ", ".join(channel.name for channel in channels)
        raise DataError(
            "wrong number of channels",
            why=f"the image has {len(data_CXYZ)}, the plan {len(channels)} ({names})",
            fix="give one file per channel, in the order of dataset.json",
        )
    out = np.empty(data_CXYZ.shape, np.float32)
    for index, channel in enumerate(channels):
        out[index] = normalize_channel(data_CXYZ[index], channel)
    return out


def normalize_channel(values: NDArray[Any], channel: ChannelPlan) -> NDArray[np.float32]:
    """One channel to [0, 1] ('none' keeps its values, 'zscore' has them in deviations from the mean).

    A channel that is constant, or whose window is empty, becomes zeros.
    """
    if channel.normalization == "none":
        return values.astype(np.float32)
    if channel.normalization == "zscore":
        return standardize(clip(values, channel))
    if channel.normalization == "rgb":
        return scale(values, 0.0, 255.0)
    if channel.normalization == "percentile":
        low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
        return scale(values, float(low), float(high))
    if channel.low is None or channel.high is None:
        raise ValueError(f"channel {channel.name}: a ct window needs low and high")
    return scale(values, channel.low, channel.high)


def clip(values: NDArray[Any], channel: ChannelPlan) -> NDArray[np.float32]:
    """The channel's values within its window, as they are where it has none."""
    if channel.low is None and channel.high is None:
        return values.astype(np.float32)
    return np.asarray(np.clip(values, channel.low, channel.high), np.float32)


def standardize(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and deviation 1 over the voxels above 0, over all where none is; zeros when those are constant.

    SAM-Med3D's public preprocessing (torchio's ZNormalization masked to x > 0).
    """
    counted = values[values > 0]
    if not counted.size:
        counted = values
    mean, deviation = counted.mean(dtype=np.float64), counted.std(dtype=np.float64)
    if not deviation > 1e-6 * max(abs(mean), 1e-6):  # rounding alone
        return np.zeros(values.shape, np.float32)
    return np.asarray((values - np.float32(mean)) / np.float32(deviation), np.float32)


def scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Clip to [low, high] and map to [0, 1]; zeros when the window is empty."""
    if not high > low:
        return np.zeros(values.shape, np.float32)
    narrow = high - low < max(1e-3 * abs(low), 1e-6)  # float32 would lose the steps, or the width itself
    out = np.clip(values, low, high).astype(np.float64 if narrow else np.float32)
    out -= low
    out /= high - low
    return np.asarray(np.clip(out, 0, 1), np.float32)
