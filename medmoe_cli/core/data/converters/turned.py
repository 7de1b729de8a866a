"""The same grid stored in another order: axes exchanged, reversed or cropped, every voxel still on a voxel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry

_TOLERANCE_VOXELS = 0.02


def onto_voxels(data_XYZ: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any] | None:
    """The array on the target's grid, 0 where it does not reach; None when its voxels are not the target's.

    DICOM tools turn and crop: a NIfTI made from a series has its rows reversed, a DICOM-SEG keeps only the slices that
    it marks. Such arrays are placed without touching a value; what reaches beyond the target is None as well, unless it
    is 0 there.
    """
    step = np.linalg.inv(target.affine) @ source.affine
    turn = np.rint(step[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    corners = corner_voxels(source)
    exact = corners @ step[:3, :3].T + step[:3, 3]
    whole = corners @ turn.T + np.rint(step[:3, 3])
    if np.abs(exact - whole).max() > _TOLERANCE_VOXELS:
        return None
    order = [int(np.flatnonzero(turn[axis])[0]) for axis in range(3)]
    turned = data_XYZ.transpose(order)
    turned = turned[tuple(slice(None, None, -1) if turn[axis].sum() < 0 else slice(None) for axis in range(3))]
    start = whole.min(axis=0).astype(int)
    out = np.zeros(target.shape, data_XYZ.dtype)
    inside = [
        (max(at, 0), min(at + size, length)) for at, size, length in zip(start, turned.shape, target.shape, strict=True)
    ]
    if any(low >= high for low, high in inside):
        return None if turned.any() else out
    part = turned[tuple(slice(low - at, high - at) for (low, high), at in zip(inside, start, strict=True))]
    if np.count_nonzero(part) != np.count_nonzero(turned):
        return None
    out[tuple(slice(low, high) for low, high in inside)] = part
    return out


def corner_voxels(grid: Geometry) -> NDArray[np.int64]:
    """(8, 3) indices of a grid's outermost voxels."""
    return np.asarray(np.array(list(product((0, 1), repeat=3))) * (np.array(grid.shape) - 1))
