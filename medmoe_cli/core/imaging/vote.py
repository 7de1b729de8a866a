"""Resizing label maps: every class is resized by itself and the largest share wins, so no value is made up.

Memory is three maps of the output's size and one class's bounding box, however many classes there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import csr_array

from medmoe_cli.core.imaging.separable import Kernel, along, nearest_index, resize_matrix

_TIE = 1e-4
_MAX_INDEXED = 1 << 16


def vote(label: NDArray[Any], shape: tuple[int, ...], kernels: Kernel | tuple[Kernel, ...] = "area") -> NDArray[Any]:
    """Resize a label map of any number of axes.

    Args:
        label: whole numbers from 0.
        shape: the new lengths.
        kernels: how a class's share of an output voxel is weighed, for all axes or for each: 'area' (overlap),
            'linear' or 'nearest'.

    Returns:
        The class with the largest share; a tie goes to the class at the voxel's centre.
    """
    if label.shape == shape:
        return label.copy()
    each: tuple[Kernel, ...] = kernels if isinstance(kernels, tuple) else (kernels,) * len(shape)
    nearest = label[np.ix_(*(nearest_index(n_in, n_out) for n_in, n_out in zip(label.shape, shape, strict=True)))]
    grows = all(n_out >= n_in for n_in, n_out in zip(label.shape, shape, strict=True))
    if set(each) == {"nearest"} or (grows and set(each) <= {"nearest", "area"}):
        return nearest
    matrices = [resize_matrix(*pair, kernel) for *pair, kernel in zip(label.shape, shape, each, strict=True)]
    best = np.zeros(shape, np.float32)
    total = np.zeros(shape, np.float32)
    out = np.zeros(shape, label.dtype)
    for value, box in class_boxes(label):
        place, share = _share(label[box] == value, box, matrices)
        total[place] += share
        share += _TIE * (nearest[place] == value)
        better = share > best[place]
        out[place][better] = value
        best[place][better] = share[better]
    out[1 - total + _TIE * (nearest == 0) > best] = 0
    return out


def class_boxes(label: NDArray[Any]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Every value but 0 and its bounding box, in ascending order."""
    if int(label.max(initial=0)) < _MAX_INDEXED:
        for index, box in enumerate(find_objects(np.asarray(label))):
            if box is not None:
                yield index + 1, box
        return
    for value in np.unique(label[label > 0]):
        where = np.nonzero(label == value)
        yield int(value), tuple(slice(int(index.min()), int(index.max()) + 1) for index in where)


def _share(
    mask: NDArray[np.bool_], box: tuple[slice, ...], matrices: list[csr_array[Any]]
) -> tuple[tuple[slice, ...], NDArray[np.float32]]:
    """A class's share of the output voxels that its bounding box reaches, and where these are."""
    share = mask.astype(np.float32)
    place = []
    for axis, (matrix, window) in enumerate(zip(matrices, box, strict=True)):
        reached = np.unique(matrix[:, window].nonzero()[0])
        rows = slice(int(reached[0]), int(reached[-1]) + 1) if reached.size else slice(0, 0)
        share = along(matrix[rows][:, window], share, axis)
        place.append(rows)
    return tuple(place), share
