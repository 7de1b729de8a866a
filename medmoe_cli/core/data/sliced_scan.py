"""A scan seen slice by slice along the plan's slice axis: what results, references and previews are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.normalize import normalize
from medmoe_cli.core.imaging.orientation import Reorientation
from medmoe_cli.core.imaging.slices import slices_first, volume_from_slices


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicedScan:
    """A scan at its own resolution, as canonical slices.

    Attributes:
        image: as it was read.
        plan: the plan it was prepared by.
        turn: between the file's voxel order and canonical (LPS) order.
        channels: the plan's channels, per-image windows filled in where slices are shown by them.
        slices_CNHW: the image's values (channels, slices, rows, cols), a view.
    """

    image: Image
    plan: Plan
    turn: Reorientation
    channels: tuple[ChannelPlan, ...]
    slices_CNHW: NDArray[Any]

    @property
    def num_slices(self) -> int:
        """Slices along the plan's slice axis."""
        return int(self.slices_CNHW.shape[1])

    @property
    def shape_SHW(self) -> tuple[int, int, int]:
        """Slices, rows, cols."""
        slices, rows, cols = self.slices_CNHW.shape[1:]
        return int(slices), int(rows), int(cols)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """A slice's pixel size (row_mm, col_mm): distance between rows, between columns."""
        across, down = (other for other in range(3) if other != self.plan.slice_axis)
        spacing = self.turn.target.spacing_mm
        return spacing[down], spacing[across]

    def native_slice(self, index: int) -> NDArray[np.float32]:
        """One slice in its own pixels (C, rows, cols), normalised: what a preview shows."""
        return normalize(self.slices_CNHW[:, index], self.channels)

    def label_slices(self, label_XYZ: NDArray[Any]) -> NDArray[Any]:
        """A label map in the file's voxel order as (slices, rows, cols), a view."""
        return slices_first(self.turn.apply(label_XYZ), self.plan.slice_axis)

    def to_file_grid(self, slices_NHW: NDArray[Any]) -> NDArray[Any]:
        """Slices (..., slices, rows, cols) back to (..., X, Y, Z) in the file's voxel order, a view."""
        return self.turn.invert(volume_from_slices(slices_NHW, self.plan.slice_axis))

    def points_to_pixels(self, points_N2: NDArray[Any]) -> NDArray[np.float64]:
        """Points (x, y) of a result's prompts in a slice's own pixels."""
        return np.asarray(points_N2, float)

    def boxes_to_pixels(self, boxes_N4: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes (x0, y0, x1, y1) of a result's prompts in a slice's own pixels."""
        return np.asarray(boxes_N4, float)
