"""Resizing as sparse matrices, one per axis: exact, cached, and the same for images, labels and probabilities.

Both grids cover the same box. Output pixel i covers [i, i+1) in output pixels, its centre is i + 0.5 (the half-pixel
convention; align_corners=False elsewhere). A matrix (n_out, n_in) has rows that sum to 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Kernel = Literal["nearest", "linear", "cubic", "area"]
_KEYS = -0.5  # Keys 1981, the cubic convolution that reproduces quadratics


@lru_cache(maxsize=512)
def resize_matrix(n_in: int, n_out: int, kernel: Kernel) -> csr_array[Any]:
    """Weights (n_out, n_in), float32, of a resize along one axis.

    'linear' and 'cubic' widen their kernel when shrinking, so that they do not alias; 'area' weighs by overlap;
    'nearest' takes the pixel under the output's centre.
    """
    if n_in < 1 or n_out < 1:
        raise ValueError(f"cannot resize {n_in} to {n_out}")
    ratio = n_in / n_out
    if kernel == "nearest":
        columns = nearest_index(n_in, n_out)[:, None]
        weights = np.ones((n_out, 1))
    elif kernel == "area":
        start = np.arange(n_out) * ratio
        columns = np.floor(start + 1e-9).astype(int)[:, None] + np.arange(int(np.ceil(ratio)) + 1)
        overlap = np.minimum(columns + 1, (start + ratio)[:, None]) - np.maximum(columns, start[:, None])
        weights = np.where((overlap > 1e-9) & (columns < n_in), overlap, 0)
    else:
        reach = 1.0 if kernel == "linear" else 2.0
        widen = max(ratio, 1.0)
        centre = (np.arange(n_out) + 0.5) * ratio
        first = np.floor(centre - reach * widen).astype(int)
        columns = first[:, None] + np.arange(int(np.ceil(2 * reach * widen)) + 2)
        distance = np.abs(columns + 0.5 - centre[:, None]) / widen
        weights = np.maximum(1 - distance, 0) if kernel == "linear" else _cubic(distance)
        if widen > 1:  # outside pixels are left out, as an antialiasing filter does
            weights = np.where((columns >= 0) & (columns < n_in), weights, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    columns = np.clip(columns, 0, n_in - 1)  # enlarging repeats the border
    rows = np.repeat(np.arange(n_out), columns.shape[1])
    keep = weights.ravel() != 0
    matrix = csr_array((weights.ravel()[keep], (rows[keep], columns.ravel()[keep])), shape=(n_out, n_in))
    matrix.sum_duplicates()
    return matrix.astype(np.float32)


@lru_cache(maxsize=128)
def box_matrix(length: int, width: float) -> csr_array[Any]:
    """Weights (length, length), float32, of a moving average over `width` pixels, cut off at the borders."""
    reach = int(np.ceil(width / 2 + 0.5))
    columns = np.arange(length)[:, None] + np.arange(-reach, reach + 1)
    offset = np.abs(np.arange(-reach, reach + 1))
    overlap = np.clip(width / 2 + 0.5 - offset, 0, min(1.0, width))
    weights = np.where((columns >= 0) & (columns < length), overlap, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(length), columns.shape[1])
    keep = weights.ravel() != 0
    matrix = csr_array((weights.ravel()[keep], (rows[keep], columns.ravel()[keep])), shape=(length, length))
    return matrix.astype(np.float32)


def nearest_index(n_in: int, n_out: int) -> NDArray[np.intp]:
    """For each output pixel, the input pixel under its centre."""
    return np.minimum((2 * np.arange(n_out) + 1) * n_in // (2 * n_out), n_in - 1).astype(np.intp)


def resize_axis(array: NDArray[Any], axis: int, n_out: int, kernel: Kernel) -> NDArray[np.float32]:
    """Resize one axis of an array; float32."""
    n_in = array.shape[axis]
    if n_in == n_out:
        return np.asarray(array, np.float32)
    if kernel == "nearest":
        return np.take(array, nearest_index(n_in, n_out), axis).astype(np.float32, copy=False)
    return along(resize_matrix(n_in, n_out, kernel), array, axis)


def along(matrix: csr_array[Any], array: NDArray[Any], axis: int) -> NDArray[np.float32]:
    """Apply a matrix (n_out, n_in) along one axis of an array; float32."""
    front = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(front, np.float32).reshape(front.shape[0], -1)
    out = matrix @ flat
    return np.moveaxis(out.reshape(matrix.shape[0], *front.shape[1:]), 0, axis)


def resize(array: NDArray[Any], shape: tuple[int, ...], kernels: Kernel | tuple[Kernel, ...]) -> NDArray[np.float32]:
    """Resize the last `len(shape)` axes, those that shrink most first; float32.

    Args:
        array: leading axes are kept.
        shape: the new lengths.
        kernels: one for all axes or one per axis.
    """
    lead = array.ndim - len(shape)
    each: tuple[Kernel, ...] = kernels if isinstance(kernels, tuple) else (kernels,) * len(shape)
    order = sorted(range(len(shape)), key=lambda axis: shape[axis] / array.shape[lead + axis])
    out: NDArray[Any] = array
    for axis in order:
        out = resize_axis(out, lead + axis, shape[axis], each[axis])
    return np.asarray(out, np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = ((_KEYS + 2) * distance - (_KEYS + 3)) * distance**2 + 1
    far = ((_KEYS * distance - 5 * _KEYS) * distance + 8 * _KEYS) * distance - 4 * _KEYS
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
