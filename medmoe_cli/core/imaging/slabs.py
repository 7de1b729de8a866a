"""Resizing volumes too large to be held in floats: slab by slab along one axis, with the same numbers as at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.resample import ImageKernel, axis_kernels
from medmoe_cli.core.imaging.separable import resize_axis

SLAB_VOXELS = 1 << 23  # 32 MiB of float32


def slabs(length: int, voxels_each: int) -> Iterator[slice]:
    """Consecutive parts of an axis, of about `SLAB_VOXELS` each.

    Args:
        length: of the axis.
        voxels_each: voxels of one place of it.
    """
    thickness = max(SLAB_VOXELS // max(voxels_each, 1), 1)
    for start in range(0, length, thickness):
        yield slice(start, min(start + thickness, length))


def resize_in_slabs(
    values_XYZ: NDArray[Any],
    geometry: Geometry,
    shape: tuple[int, int, int],
    *,
    convert: Callable[[NDArray[Any]], NDArray[np.float32]],
    kernel: ImageKernel = "cubic",
) -> NDArray[np.float32]:
    """`resize_image` of converted values, of which never more than a slab is held: equal to the last bit.

    The axes that shrink most come first, so the volume between is the smallest there can be.

    Args:
        values_XYZ: on the grid `geometry`.
        geometry: of the values.
        shape: voxels that cover the same box.
        convert: a slab's values as the network's, voxel by voxel.
        kernel: interpolation; cubic overshoot is clipped to the converted values' range.
    """
    kernels = axis_kernels(geometry, shape, kernel)
    first, second, last = sorted(range(3), key=lambda axis: shape[axis] / values_XYZ.shape[axis])
    between = list(shape)
    between[last] = values_XYZ.shape[last]
    resized = np.empty(between, np.float32)
    lowest, highest = np.float32(np.inf), np.float32(-np.inf)
    for slab in slabs(values_XYZ.shape[last], values_XYZ.size // values_XYZ.shape[last]):
        place = tuple(slab if axis == last else slice(None) for axis in range(3))
        part = convert(values_XYZ[place])
        lowest, highest = min(lowest, part.min()), max(highest, part.max())
        for axis in (first, second):
            part = resize_axis(part, axis, shape[axis], kernels[axis])
        resized[place] = part
    out = resize_axis(resized, last, shape[last], kernels[last])
    return np.clip(out, lowest, highest, out=out) if kernel == "cubic" else out
