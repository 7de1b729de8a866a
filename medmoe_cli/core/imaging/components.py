"""Connected components of one class of a label map: neighbours share a face, an edge or a corner (26 in a volume)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None when it is empty."""
    parts = []
    for axis in range(mask.ndim):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(present):
            return None
        parts.append(slice(int(present[0]), int(present[-1]) + 1))
    return tuple(parts)


def component_sizes(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Voxels of each component, largest first; none for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        return np.zeros(0, np.int64)
    components, count = _components(mask[box])
    return np.sort(np.bincount(components.ravel(), minlength=count + 1)[1:])[::-1]


def keep_largest(labels: NDArray[Any], value: int) -> int:
    """Make all but the largest component of a value background, in place; of equal ones the first in the array stays.

    Returns:
        Voxels that were removed.
    """
    mask = labels == value
    box = bounding_box(mask)
    if box is None:
        return 0
    components, count = _components(mask[box])
    if count < 2:
        return 0
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    others = (components > 0) & (components != sizes.argmax())
    labels[box][others] = 0
    return int(others.sum())


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    components = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, bool), output=components)
    return components, int(count)
