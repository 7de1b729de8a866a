"""From an image to the volume a 3D network sees, (C, D, H, W) = canonical z, y, x at the plan's spacing, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prepare import image_windows, require_channels, round_to_half
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.normalize import clip, normalize_channel, standardize
from medmoe_cli.core.imaging.orientation import Reorientation, reorientation_of
from medmoe_cli.core.imaging.resample import axis_kernels, resize_image, resize_labels, resized_geometry, shape_at
from medmoe_cli.core.imaging.separable import along, resize_matrix
from medmoe_cli.core.imaging.slabs import resize_in_slabs

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedVolume:
    """An image on the plan's spacing.

    Attributes:
        image: normalised (C, D, H, W).
        turn: between the file's voxel order and canonical (LPS) order.
        shape: the canonical grid's voxels x, y, z after resampling.
    """

    image: NDArray[np.float32]
    turn: Reorientation
    shape: Triple

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size z, y, x: the plan's up to rounding to whole voxels."""
        x, y, z = resized_geometry(self.turn.target, self.shape).spacing_mm
        return z, y, x

    def fit_label(self, label_XYZ: NDArray[Any]) -> NDArray[Any]:
        """A label map in the file's voxel order as (D, H, W); no new values."""
        return resize_labels(self.turn.apply(label_XYZ), self.turn.target, self.shape).transpose(2, 1, 0)

    def restore(self, maps_KDHW: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (K, D, H, W) back to (K, X, Y, Z) in the file's voxel order, linear."""
        target = self.turn.target
        grid = resized_geometry(target, self.shape)
        back = resize_image(maps_KDHW.transpose(0, 3, 2, 1), grid, target.shape, kernel="linear")
        return np.asarray(self.turn.invert(back), np.float32)

    def restore_part(
        self, part_DHW: NDArray[Any], start_DHW: Triple, wanted_XYZ: tuple[slice, slice, slice]
    ) -> tuple[tuple[slice, slice, slice], NDArray[np.float32]] | None:
        """A part of a probability map, 0 around it, on a part of the scan's canonical grid; as `restore`, linear.

        Args:
            part_DHW: the part.
            start_DHW: its first voxel in the volume.
            wanted_XYZ: canonical voxels of the scan.

        Returns:
            What of the wanted voxels it reaches, and the probabilities there (x, y, z); None where it reaches none.
        """
        kernels = axis_kernels(resized_geometry(self.turn.target, self.shape), self.turn.target.shape, "linear")
        matrices, place = [], []
        for axis in range(3):
            first, length = start_DHW[2 - axis], part_DHW.shape[2 - axis]
            matrix = resize_matrix(self.shape[axis], self.turn.target.shape[axis], kernels[axis])
            reaching = matrix[wanted_XYZ[axis], first : first + length]
            rows = np.flatnonzero(np.diff(reaching.indptr))
            if not rows.size:
                return None
            low, high = int(rows[0]), int(rows[-1]) + 1
            matrices.append(reaching[low:high])
            place.append(slice(wanted_XYZ[axis].start + low, wanted_XYZ[axis].start + high))
        out = part_DHW.transpose(2, 1, 0)
        for axis in sorted(range(3), key=lambda each: matrices[each].shape[0] / matrices[each].shape[1]):
            out = along(matrices[axis], out, axis)
        return (place[0], place[1], place[2]), out


def prepare_volume(image: Image, plan: Plan) -> PreparedVolume:
    """Prepare an image for a 3D method: its values clipped, then resampled (cubic), then standardised.

    Windows clip in the image's own voxels, where a cubic kernel cannot yet spread metal; 'zscore' takes its mean and
    deviation after resampling, as the public recipe does, so that they do not depend on the scanner's voxels.

    Raises:
        DataError: another number of channels than the plan, or values beyond half precision.
    """
    if plan.spacing_mm is None:
        raise ValueError("prepare_volume is for 3D methods")
    require_channels(image, plan)
    turn = reorientation_of(image.geometry)
    shape = shape_at(turn.target, plan.spacing_mm)
    prepared = np.empty((image.num_channels, *reversed(shape)), np.float32)
    # Channel by channel and slab by slab: ranges differ, and a large scan is never held in floats.
    for index, channel in enumerate(image_windows(image, plan)):
        later = channel.normalization == "zscore"
        convert = partial(clip if later else normalize_channel, channel=channel)
        resized = resize_in_slabs(turn.apply(image.data[index]), turn.target, shape, convert=convert)
        prepared[index] = (standardize(resized) if later else resized).transpose(2, 1, 0)
    return PreparedVolume(image=round_to_half(prepared, image.header.path), turn=turn, shape=shape)


def volume_shape(
    shape: Triple, spacing_mm: tuple[float, float, float], target_mm: tuple[float, float, float]
) -> Triple:
    """Voxels x, y, z of a canonical grid after resampling."""
    return shape_at(Geometry.plain(shape, spacing_mm), target_mm)
