"""Moving images and label maps to other grids: another resolution of the same box, or another box.

Anisotropic volumes (one axis over three times coarser) are resized in plane with the wanted kernel and across planes
with nearest slices, as nnU-Net does (Isensee et al. 2021): an interpolated slice between distant ones shows nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.separable import Kernel, along, box_matrix, resize
from medmoe_cli.core.imaging.vote import class_boxes, vote

ANISOTROPY_LIMIT = 3.0
ImageKernel = Literal["linear", "cubic"]
_SplineOrder = Literal[0, 1, 3]
_SPLINE_ORDER: dict[ImageKernel, _SplineOrder] = {"linear": 1, "cubic": 3}


def shape_at(geometry: Geometry, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxels that cover the same box at another spacing, rounded, at least 1."""
    x, y, z = (max(round(extent / spacing), 1) for extent, spacing in zip(geometry.extent_mm, spacing_mm, strict=True))
    return x, y, z


def resized_geometry(geometry: Geometry, shape: tuple[int, int, int]) -> Geometry:
    """The grid of `shape` voxels that covers the same box."""
    ratio = np.array(geometry.shape, float) / np.array(shape, float)
    step = np.diag([*ratio, 1.0])
    step[:3, 3] = (ratio - 1) / 2  # centre of the first new voxel, in old voxels
    return Geometry(shape=shape, affine=geometry.affine @ step)


def coarse_axis(spacing_mm: tuple[float, float, float]) -> int | None:
    """The through-plane axis of an anisotropic grid; None where no axis is over three times coarser than another."""
    if max(spacing_mm) / min(spacing_mm) <= ANISOTROPY_LIMIT:
        return None
    return int(np.argmax(spacing_mm))


def resize_image(
    data_CXYZ: NDArray[Any], geometry: Geometry, shape: tuple[int, int, int], *, kernel: ImageKernel = "cubic"
) -> NDArray[np.float32]:
    """Resize an image (C, X, Y, Z) or float maps to `shape` voxels over the same box.

    Shrinking does not alias. Cubic overshoot is clipped to the image's own range.
    """
    out = resize(data_CXYZ, shape, axis_kernels(geometry, shape, kernel))
    if kernel == "cubic" and out.size:
        np.clip(out, np.float32(data_CXYZ.min()), np.float32(data_CXYZ.max()), out=out)
    return out


def resize_labels(labels_XYZ: NDArray[Any], geometry: Geometry, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Resize a label map (X, Y, Z) to `shape` voxels over the same box: each class linearly, the largest share wins."""
    return vote(labels_XYZ, shape, axis_kernels(geometry, shape, "linear"))


def resample_image(
    data_CXYZ: NDArray[Any],
    source: Geometry,
    target: Geometry,
    *,
    kernel: ImageKernel = "linear",
    fill: float | None = None,
) -> NDArray[np.float32]:
    """Sample an image on another grid, for instance FLAIR on the grid of DWI.

    Args:
        data_CXYZ: on the grid `source`.
        source: where the image lies.
        target: where it is wanted.
        kernel: interpolation.
        fill: value outside the image; its minimum by default.

    Returns:
        (C, *target.shape) float32.
    """
    if not source.differences(target):
        return np.array(data_CXYZ, np.float32)
    out = np.empty((len(data_CXYZ), *target.shape), np.float32)
    inside = _sample(np.ones(source.shape, np.float32), source, target, order=0, mode="grid-constant") > 0.5
    for index, channel in enumerate(data_CXYZ):
        low, high = float(channel.min()), float(channel.max())
        smooth, grid = _smoothed(np.asarray(channel, np.float32), source, target)
        out[index] = _sample(smooth, grid, target, order=_SPLINE_ORDER[kernel], mode="nearest").clip(low, high)
        out[index][~inside] = low if fill is None else fill
    return out


def resample_labels(labels_XYZ: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any]:
    """Sample a label map on another grid: each class linearly, the largest share wins; 0 outside."""
    if not source.differences(target):
        return labels_XYZ.copy()
    best = np.zeros(target.shape, np.float32)
    total = np.zeros(target.shape, np.float32)
    out = np.zeros(target.shape, labels_XYZ.dtype)
    for value, box in class_boxes(labels_XYZ):
        part = _cut(source, box)
        place = _reached(part, target)
        if any(window.start >= window.stop for window in place):
            continue
        smooth, grid = _smoothed((labels_XYZ[box] == value).astype(np.float32), part, target, empty_around=True)
        share = _sample(smooth, grid, _cut(target, place), order=1, mode="grid-constant")
        total[place] += share
        better = share > best[place]
        out[place][better] = value
        best[place][better] = share[better]
    out[1 - total > best] = 0
    return out


def axis_kernels(geometry: Geometry, shape: tuple[int, int, int], kernel: Kernel) -> tuple[Kernel, ...]:
    """The wanted kernel, but nearest across the planes of a grid that is anisotropic before or after."""
    after = resized_geometry(geometry, shape).spacing_mm
    through = coarse_axis(geometry.spacing_mm)
    through = coarse_axis(after) if through is None else through
    return tuple("nearest" if axis == through else kernel for axis in range(3))


def _voxel_map(source: Geometry, target: Geometry) -> NDArray[np.float64]:
    """4x4 from target voxels to source voxels."""
    return np.asarray(np.linalg.inv(source.affine) @ target.affine)


def _sample(
    array: NDArray[np.float32],
    source: Geometry,
    target: Geometry,
    *,
    order: _SplineOrder,
    mode: Literal["nearest", "grid-constant"],
) -> NDArray[np.float32]:
    matrix = _voxel_map(source, target)
    out = affine_transform(
        array, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, output=np.float32, order=order, mode=mode
    )
    return np.asarray(out, np.float32)


def _smoothed(
    array: NDArray[np.float32], source: Geometry, target: Geometry, *, empty_around: bool = False
) -> tuple[NDArray[np.float32], Geometry]:
    """The array averaged over a target voxel's size, where the target's steps would skip voxels.

    With `empty_around` the array is a piece cut out of zeros, and is returned with a margin of them.
    """
    steps = [float(step) for step in np.abs(_voxel_map(source, target)[:3, :3]).max(axis=1)]
    if empty_around:
        margin = [int(np.ceil(step)) if step > 1 else 0 for step in steps]
        array = np.pad(array, [(width, width) for width in margin])
        start = [slice(-width, length + width) for width, length in zip(margin, source.shape, strict=True)]
        source = _cut(source, tuple(start))
    for axis, step in enumerate(steps):
        if step > 1:
            array = along(box_matrix(array.shape[axis], round(step, 3)), array, axis)
    return array, source


def _cut(geometry: Geometry, box: tuple[slice, ...]) -> Geometry:
    """The grid of a box of voxels."""
    shift = np.eye(4)
    shift[:3, 3] = [window.start for window in box]
    x, y, z = (window.stop - window.start for window in box)
    return Geometry(shape=(x, y, z), affine=geometry.affine @ shift)


def _reached(part: Geometry, target: Geometry) -> tuple[slice, ...]:
    """The box of target voxels that a part of the source (and a voxel around it) can reach."""
    margin = np.maximum(np.abs(_voxel_map(part, target)[:3, :3]).max(axis=1), 1.0) + 1
    low, high = -margin, np.array(part.shape) - 1 + margin
    corners = np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    voxels = target.to_voxels(part.to_mm(corners))
    start = np.clip(np.floor(voxels.min(axis=0)), 0, target.shape).astype(int)
    stop = np.clip(np.ceil(voxels.max(axis=0)) + 1, 0, target.shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
