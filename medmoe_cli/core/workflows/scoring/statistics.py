"""Volume, intensity and extent of every predicted structure (`predict --statistics`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medmoe_cli.core.imaging.geometry import Geometry


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureStatistics:
    """One structure of one scan; values that an absent structure does not have are None.

    Attributes:
        num_voxels: voxels of the mask.
        volume_ml: their volume.
        intensity_mean, intensity_std: of the scan's first channel inside the mask, in the scan's own units.
        centroid_mm: RAS.
        box_vox: x0, y0, z0, x1, y1, z1 in the file's voxels, last voxel included.
        touches_border: the mask reaches an edge of the image along x or y (or z of a volume), so it may be cut off.
    """

    num_voxels: int
    volume_ml: float
    intensity_mean: float | None
    intensity_std: float | None
    centroid_mm: tuple[float, float, float] | None
    box_vox: tuple[int, ...] | None
    touches_border: bool


def structure_statistics(
    labels_XYZ: NDArray[np.integer],
    intensities_XYZ: NDArray[Any],
    geometry: Geometry,
    names: Mapping[str, int],
) -> dict[str, StructureStatistics]:
    """Statistics by class name; every class is listed, absent ones with zero voxels."""
    voxel_ml = abs(float(np.linalg.det(geometry.affine[:3, :3]))) / 1000.0
    # scipy gives None for a value that does not occur, whatever its stubs say.
    boxes = cast(
        "list[tuple[slice, ...] | None]",
        ndimage.find_objects(labels_XYZ, max_label=max(names.values())),
    )
    found: dict[str, StructureStatistics] = {}
    for name, value in names.items():
        box = boxes[value - 1]
        if box is None:
            found[name] = StructureStatistics(
                num_voxels=0,
                volume_ml=0.0,
                intensity_mean=None,
                intensity_std=None,
                centroid_mm=None,
                box_vox=None,
                touches_border=False,
            )
            continue
        inside = labels_XYZ[box] == value
        values = intensities_XYZ[box][inside].astype(np.float64)
        start = np.array([part.start for part in box], float)
        centre = geometry.to_mm((np.argwhere(inside).mean(axis=0) + start)[None])[0]
        found[name] = StructureStatistics(
            num_voxels=int(inside.sum()),
            volume_ml=float(inside.sum() * voxel_ml),
            intensity_mean=float(values.mean()),
            intensity_std=float(values.std()),
            centroid_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
            box_vox=(*(part.start for part in box), *(part.stop - 1 for part in box)),
            touches_border=any(
                size > 1 and (part.start == 0 or part.stop == size)
                for part, size in zip(box, labels_XYZ.shape, strict=True)
            ),
        )
    return found
