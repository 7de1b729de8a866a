"""Surfaces of masks and the distances between them, in mm.

A surface is a list of elements, each with a place on a grid and a size. Two kinds of elements:

- 'marching-cubes' (the default): one wherever eight voxels (2-D: four pixels) meet and are not all alike, with the
  area of its marching-cubes polygons, as DeepMind's `surface-distance` defines it (Nikolov et al., 2018). MONAI's
  `use_subvoxels=True` is the same.
- 'voxels': the mask's voxels with a face neighbour outside it, each of size 1. MONAI's default and MedPy.

Distances run from an element of one surface to the nearest element of the other (`nearest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.metrics.elements import element_sizes
from medmoe_cli.core.metrics.nearest import Search, nearest_mm

Elements = Literal["marching-cubes", "voxels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """The surface elements of a mask.

    Attributes:
        places: (2|3, N) int32, position on the grid (of corners for marching-cubes elements), in raster order.
        sizes: (N,) float64, area in mm2, length in mm (2-D), or 1 (voxels).
    """

    places: NDArray[np.int32]
    sizes: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of elements."""
        return len(self.sizes)


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceDistances:
    """Distances between two surfaces, each direction sorted by distance, then by size.

    Attributes:
        reference_mm: (N,) from the reference's elements to the prediction; inf where the prediction has none.
        reference_sizes: (N,) sizes of those elements.
        prediction_mm: (M,) from the prediction's elements to the reference.
        prediction_sizes: (M,) sizes of those elements.
    """

    reference_mm: NDArray[np.float64]
    reference_sizes: NDArray[np.float64]
    prediction_mm: NDArray[np.float64]
    prediction_sizes: NDArray[np.float64]

    @property
    def defined(self) -> bool:
        """True when both surfaces have elements."""
        return bool(len(self.reference_mm) and len(self.prediction_mm))

    @property
    def hausdorff_mm(self) -> float:
        """HD: the largest distance of both directions; NaN unless defined."""
        if not self.defined:
            return float("nan")
        return float(max(self.reference_mm[-1], self.prediction_mm[-1]))

    def robust_hausdorff_mm(self, percent: float) -> float:
        """HD95 for 95: the larger of the two directions' percentiles, weighted by element size; NaN unless defined.

        A direction's percentile is the smallest distance within which that share of its surface lies (no
        interpolation), as in `surface-distance`.
        """
        if not self.defined:
            return float("nan")
        return max(
            _weighted_percentile(self.reference_mm, self.reference_sizes, percent),
            _weighted_percentile(self.prediction_mm, self.prediction_sizes, percent),
        )

    def pooled_percentile_mm(self, percent: float) -> float:
        """The interpolated percentile of both directions' distances together, unweighted (MedPy's `hd95` for 95)."""
        if not self.defined:
            return float("nan")
        return float(np.percentile(np.concatenate((self.reference_mm, self.prediction_mm)), percent))

    @property
    def average_mm(self) -> tuple[float, float]:
        """Mean distance reference to prediction and back, weighted by element size; NaN unless defined."""
        if not self.defined:
            return float("nan"), float("nan")
        return (
            float((self.reference_mm * self.reference_sizes).sum() / self.reference_sizes.sum()),
            float((self.prediction_mm * self.prediction_sizes).sum() / self.prediction_sizes.sum()),
        )

    @property
    def average_symmetric_mm(self) -> float:
        """ASSD: mean distance over the elements of both surfaces, weighted by size; NaN unless defined."""
        if not self.defined:
            return float("nan")
        total = (self.reference_mm * self.reference_sizes).sum() + (self.prediction_mm * self.prediction_sizes).sum()
        return float(total / (self.reference_sizes.sum() + self.prediction_sizes.sum()))

    def surface_dice(self, tolerance_mm: float) -> float:
        """NSD: the share of both surfaces that lies within the tolerance of the other; NaN when both are empty."""
        whole = self.reference_sizes.sum() + self.prediction_sizes.sum()
        if whole == 0:
            return float("nan")
        within = (
            self.reference_sizes[self.reference_mm <= tolerance_mm].sum()
            + self.prediction_sizes[self.prediction_mm <= tolerance_mm].sum()
        )
        return float(within / whole)


def surface_distances(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    *,
    elements: Elements = "marching-cubes",
    search: Search = "auto",
) -> SurfaceDistances:
    """Compare the surfaces of two masks.

    Args:
        reference: bool, 2-D or 3-D.
        prediction: bool, the same shape.
        spacing_mm: voxel size along each axis of the masks.
        elements: what a surface is made of.
        search: how nearest elements are found; results do not depend on it.
    """
    if reference.shape != prediction.shape or reference.ndim != len(spacing_mm):
        raise ValueError(f"masks {reference.shape} and {prediction.shape} with spacing of {len(spacing_mm)} axes")
    sides = tuple(float(side) for side in spacing_mm)
    find = _voxel_surface if elements == "voxels" else _cube_surface
    surfaces = find(reference, sides), find(prediction, sides)
    forth = nearest_mm(surfaces[0].places, surfaces[1].places, sides, search=search)
    back = nearest_mm(surfaces[1].places, surfaces[0].places, sides, search=search)
    reference_order = np.lexsort((surfaces[0].sizes, forth))
    prediction_order = np.lexsort((surfaces[1].sizes, back))
    return SurfaceDistances(
        reference_mm=forth[reference_order],
        reference_sizes=surfaces[0].sizes[reference_order],
        prediction_mm=back[prediction_order],
        prediction_sizes=surfaces[1].sizes[prediction_order],
    )


def bounding_box(labels: NDArray[np.bool_] | NDArray[np.integer]) -> tuple[slice, ...] | None:
    """The smallest box around what is not zero; None when there is nothing."""
    if not labels.size:
        return None
    box: list[slice] = []
    # Each axis's projection is taken of the slab that the axes before it have left, from shrinking maxima.
    rest = labels.view(np.uint8) if labels.dtype == bool else labels
    for axis in range(labels.ndim):
        filled = np.flatnonzero(rest.max(axis=tuple(range(1, rest.ndim))))
        if not len(filled):
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
        if axis < labels.ndim - 1:
            rest = rest[box[-1]].max(axis=0)
    return tuple(box)


def _cube_surface(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Surface:
    box = bounding_box(mask)
    if box is None:
        return _empty(mask.ndim)
    codes: NDArray[np.uint8] = np.pad(mask[box], 1).view(np.uint8)
    for axis in reversed(range(mask.ndim)):
        # One axis at a time: 1 bit becomes 2, 4, 8 bits per place, the lower neighbour's in front.
        bits = 1 << (mask.ndim - 1 - axis)
        lower = codes[(slice(None),) * axis + (slice(None, -1),)]
        upper = codes[(slice(None),) * axis + (slice(1, None),)]
        codes = (lower << np.uint8(bits)) | upper
    full = np.uint8((1 << (1 << mask.ndim)) - 1)
    # 0 wraps round to 255, so that one comparison leaves out the empty and the full neighbourhoods.
    flat = np.flatnonzero((codes.reshape(-1) - np.uint8(1)) < full - np.uint8(1))
    return Surface(
        places=_places(flat, codes.shape, box),
        sizes=element_sizes(spacing_mm)[codes.reshape(-1)[flat]],
    )


def _voxel_surface(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Surface:
    box = bounding_box(mask)
    if box is None:
        return _empty(mask.ndim)
    padded = np.pad(mask[box], 1)
    middle = (slice(1, -1),) * mask.ndim
    core = padded[middle].copy()
    for axis in range(mask.ndim):
        for shift in (slice(None, -2), slice(2, None)):
            core &= padded[(*middle[:axis], shift, *middle[axis + 1 :])]
    flat = np.flatnonzero(mask[box] & ~core)
    return Surface(places=_places(flat, core.shape, box), sizes=np.ones(len(flat)))


def _empty(num_axes: int) -> Surface:
    return Surface(places=np.zeros((num_axes, 0), np.int32), sizes=np.zeros(0))


def _places(flat: NDArray[np.intp], shape: tuple[int, ...], box: tuple[slice, ...]) -> NDArray[np.int32]:
    places = np.empty((len(shape), len(flat)), np.int32)
    for axis, column in enumerate(np.unravel_index(flat, shape)):
        places[axis] = column + box[axis].start
    return places


def _weighted_percentile(distances: NDArray[np.float64], sizes: NDArray[np.float64], percent: float) -> float:
    reached = np.searchsorted(np.cumsum(sizes) / sizes.sum(), percent / 100.0)
    return float(distances[min(int(reached), len(distances) - 1)])
