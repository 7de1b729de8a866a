"""Canonical orientation: axes to the patient's left, posterior and superior (LPS), and exactly back.

A canonical slice `array[:, :, k].T` displays as radiologists look at it. Only whole axes are swapped and flipped,
so nothing is interpolated and the inverse is exact; an oblique grid keeps its obliqueness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import io_orientation, ornt_transform
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry

# nibabel's functions carry no types.
_io_orientation: Callable[..., NDArray[np.float64]] = io_orientation
_ornt_transform: Callable[..., NDArray[np.float64]] = ornt_transform
_LPS = np.array([[0, -1], [1, -1], [2, 1]])  # axis, direction in RAS


@dataclass(frozen=True, kw_only=True, slots=True)
class Reorientation:
    """How a grid was turned.

    Attributes:
        axes: source axis that became canonical axis x, y, z.
        flipped: whether canonical axis x, y, z runs against its source axis.
        source: the grid before.
        target: the canonical grid.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    source: Geometry
    target: Geometry

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn an array whose last three axes are the source grid; a view."""
        lead = array.ndim - 3
        self._require(array.shape[lead:], self.source.shape)
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return _flip(turned, self.flipped)

    def invert(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn an array on the canonical grid (label or float map, channels first) back to the source; a view."""
        lead = array.ndim - 3
        self._require(array.shape[lead:], self.target.shape)
        straight = _flip(array, self.flipped)
        return straight.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))

    def points_to_canonical(self, voxels_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Source voxel indices (voxel centres at whole numbers) to canonical ones."""
        out = np.asarray(voxels_N3, float)[:, list(self.axes)]
        last = np.array(self.target.shape, float) - 1
        return np.where(np.array(self.flipped), last - out, out)

    def points_to_source(self, voxels_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Canonical voxel indices (voxel centres at whole numbers) to source ones."""
        last = np.array(self.target.shape, float) - 1
        straight = np.where(np.array(self.flipped), last - np.asarray(voxels_N3, float), voxels_N3)
        out = np.empty_like(straight)
        out[:, list(self.axes)] = straight
        return out

    @staticmethod
    def _require(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
        if tuple(shape) != expected:
            raise ValueError(f"array of {tuple(shape)} on a grid of {expected}")


class Canonical(NamedTuple):
    """An array on the canonical grid, that grid, and the way back."""

    array: NDArray[Any]
    geometry: Geometry
    reorientation: Reorientation


def reorientation_of(geometry: Geometry) -> Reorientation:
    """The turn that brings a grid closest to LPS."""
    turn = _ornt_transform(_io_orientation(geometry.affine), _LPS)
    axes, flipped = [0, 0, 0], [False, False, False]
    for source_axis, (target_axis, direction) in enumerate(turn):
        axes[int(target_axis)] = source_axis
        flipped[int(target_axis)] = direction < 0
    shape = (geometry.shape[axes[0]], geometry.shape[axes[1]], geometry.shape[axes[2]])
    to_source = np.zeros((4, 4))  # canonical voxel to source voxel
    to_source[3, 3] = 1
    for axis in range(3):
        to_source[axes[axis], axis] = -1 if flipped[axis] else 1
        to_source[axes[axis], 3] = shape[axis] - 1 if flipped[axis] else 0
    target = Geometry(shape=shape, affine=geometry.affine @ to_source)
    return Reorientation(
        axes=(axes[0], axes[1], axes[2]),
        flipped=(flipped[0], flipped[1], flipped[2]),
        source=geometry,
        target=target,
    )


def to_canonical(array: NDArray[Any], geometry: Geometry) -> Canonical:
    """Turn an array (X, Y, Z) or (C, X, Y, Z) to the canonical grid.

    Returns:
        A view of the array, the canonical geometry, and the Reorientation whose `invert` leads back.
    """
    turn = reorientation_of(geometry)
    return Canonical(array=turn.apply(array), geometry=turn.target, reorientation=turn)


def _flip(array: NDArray[Any], flipped: tuple[bool, bool, bool]) -> NDArray[Any]:
    return array[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flipped))]
