"""A volume as the report shows it: one slice of the window that a 3D network would be shown of the structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.engine.windows import Extent, Window, group_windows
from medmoe_cli.core.nn.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """A slice of a window.

    Attributes:
        window: the window.
        volume: the image it is cut from (C, D, H, W).
        axis: of (D, H, W), across which it is cut.
        place: in voxels of the window along that axis.
    """

    window: Window
    volume: NDArray[np.float32]
    axis: int
    place: int

    @property
    def picture(self) -> NDArray[np.float32]:
        """The image (rows, cols), without what lies beyond the volume, the head on top."""
        picture: NDArray[np.float32] = self.of(self.window.cut(self.volume))[0]
        return picture

    def of(self, map_CDHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map of the window, on whatever grid, as (C, rows, cols)."""
        side = self.window.side
        parts = [slice(None)]
        for axis, own in enumerate(self.window.own):
            length = map_CDHW.shape[axis + 1]
            if axis == self.axis:
                first = min(int((self.place + 0.5) * length / side), length - 1)
                parts.append(slice(first, first + 1))
            else:
                first = int(own.start * length / side)
                parts.append(slice(first, max(round(own.stop * length / side), first + 1)))
        flat = map_CDHW[tuple(parts)].squeeze(self.axis + 1)
        return flat if self.axis == 0 else flat[:, ::-1]  # rows of other slices run along z, to the head


def fullest_plane(scan: VolumeScan, reference_SHW: NDArray[np.integer]) -> Plane:
    """The slice with most of the structures, in the window around their middle there."""
    labels = scan.label_volume(scan.to_file_grid(reference_SHW)) > 0
    axis = 2 - scan.plan.slice_axis
    others = tuple(other for other in range(3) if other != axis)
    fullest = int(labels.sum(axis=others).argmax())
    inside = np.argwhere(labels.take(fullest, axis=axis))
    middle = inside.mean(axis=0) + 0.5 if len(inside) else np.array([scan.shape_DHW[other] / 2 for other in others])
    z, y, x = (float(place) for place in np.insert(middle, axis, fullest + 0.5))
    extent = Extent(low=(z, y, x), high=(z, y, x), margin=0.0)
    ((window,),) = [group.windows for group in group_windows([extent], scan.shape_DHW, scan.plan.input_size)]
    return Plane(window=window, volume=scan.volume.image, axis=axis, place=fullest - window.start[axis])


@torch.inference_mode()
def plane_maps(segmenter: Segmenter, plane: Plane) -> Mapping[str, NDArray[np.float32]]:
    """The feature maps that a method offers, on the slice."""
    window = torch.from_numpy(plane.window.cut(plane.volume))[None]
    return {name: plane.of(values[0].float().numpy()) for name, values in segmenter.pictures(window).items()}
