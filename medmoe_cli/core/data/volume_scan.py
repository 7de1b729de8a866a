"""A scan as a 3D network sees it and as slices of its own: prompts go one way, masks the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prepare import Prepared, prepare
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.data.volume import PreparedVolume, Triple, prepare_volume
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.slabs import slabs
from medmoe_cli.core.imaging.slices import slices_first

Place = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True, slots=True)
class NativePart:
    """Probabilities on a part of the scan's slices.

    Attributes:
        place: slices, rows, cols.
        probability: float32 (slices, rows, cols).
    """

    place: Place
    probability: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeScan(SlicedScan):
    """An image as a 3D network sees it, and as its own slices.

    Places in the volume are (x, y, z) in voxels of the plan's grid, with voxel i covering [i, i + 1).

    Attributes:
        volume: the image on the plan's grid.
    """

    volume: PreparedVolume

    @property
    def shape_DHW(self) -> Triple:
        """Voxels z, y, x of the plan's grid."""
        x, y, z = self.volume.shape
        return z, y, x

    def to_volume(self, voxels_N3: NDArray[Any]) -> NDArray[np.float64]:
        """Voxel indices (x, y, z) of the file, not necessarily whole, as places in the volume."""
        canonical = self.turn.points_to_canonical(np.asarray(voxels_N3, float))
        return np.asarray((canonical + 0.5) * self._scale_XYZ)

    def boxes_to_volume(self, box_6: NDArray[Any]) -> NDArray[np.float64]:
        """Faces x0, y0, z0, x1, y1, z1 in voxel indices of the file as faces in the volume."""
        corners = self.to_volume(np.asarray(box_6, float).reshape(2, 3))
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def on_slices(self, places_N3: NDArray[Any]) -> NDArray[np.float64]:
        """Places in the volume as (slice, x, y): continuous, in voxels of the scan's own slices."""
        native = np.asarray(places_N3, float) / self._scale_XYZ
        axis = self.plan.slice_axis
        across, down = (other for other in range(3) if other != axis)
        return np.asarray(native[:, [axis, across, down]])

    def label_volume(self, label_XYZ: NDArray[Any]) -> NDArray[Any]:
        """A label map in the file's voxel order on the plan's grid (D, H, W); no new values."""
        return self.volume.fit_label(label_XYZ)

    def slabs(self) -> Iterator[slice]:
        """Consecutive slices, few enough to hold several maps of them in floats."""
        slices, rows, cols = self.shape_SHW
        return slabs(slices, rows * cols)

    def restore(self, part_DHW: NDArray[Any], start_DHW: Triple, slab: slice) -> NativePart | None:
        """A part of a probability map on some of the scan's slices, linear; None where it reaches none of them.

        Args:
            part_DHW: probabilities on the plan's grid; around them there is nothing.
            start_DHW: its first voxel.
            slab: the slices.
        """
        axis = self.plan.slice_axis
        shape = self.turn.target.shape
        x, y, z = (slab if each == axis else slice(0, shape[each]) for each in range(3))
        found = self.volume.restore_part(part_DHW, start_DHW, (x, y, z))
        if found is None:
            return None
        place_XYZ, values_XYZ = found
        across, down = (other for other in range(3) if other != axis)
        return NativePart(
            place=(place_XYZ[axis], place_XYZ[down], place_XYZ[across]), probability=slices_first(values_XYZ, axis)
        )

    @property
    def _scale_XYZ(self) -> NDArray[np.float64]:
        """Voxels of the plan's grid per voxel of the canonical one."""
        ratio: NDArray[np.float64] = np.array(self.volume.shape, float) / np.array(self.turn.target.shape, float)
        return ratio


def prepare_scan(image: Image, plan: Plan) -> Prepared | VolumeScan:
    """Prepare an image for the plan's method, 2D or 3D.

    Raises:
        DataError: another number of channels than the plan, or values beyond half precision.
    """
    if plan.dims == 2:
        return prepare(image, plan)
    volume = prepare_volume(image, plan)
    if plan.shown_positions is not None:
        volume = replace(volume, image=volume.image[list(plan.shown_positions)])
    return VolumeScan(
        image=image,
        plan=plan,
        turn=volume.turn,
        channels=plan.channels,
        slices_CNHW=slices_first(volume.turn.apply(image.data), plan.slice_axis),
        volume=volume,
    )
