"""Cutting canonical volumes into slices and putting slices back.

A slice across axis a has the later of the two remaining axes as rows and the earlier as columns, so an axial slice of
a canonical volume is the picture that radiologists look at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def take_slice(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Slice `index` across spatial axis `axis` of (..., X, Y, Z): (..., rows, cols), a view."""
    return slices_first(array, axis)[..., index, :, :]


def slices_first(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """(..., X, Y, Z) to (..., slices, rows, cols), a view."""
    lead = array.ndim - 3
    cols, rows = (other for other in range(3) if other != axis)
    return array.transpose(*range(lead), lead + axis, lead + rows, lead + cols)


def volume_from_slices(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """(..., slices, rows, cols) back to (..., X, Y, Z), a view; the inverse of `slices_first`."""
    lead = array.ndim - 3
    cols, rows = (other for other in range(3) if other != axis)
    place = {axis: 0, rows: 1, cols: 2}
    return np.asarray(array).transpose(*range(lead), *(lead + place[spatial] for spatial in range(3)))
