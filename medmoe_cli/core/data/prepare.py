"""From an image to the slices a 2D network sees, and back: the one place, so that training and prediction agree.

Coordinates of a slice are (x, y) = (column, row) with pixel i covering [i, i+1); voxel indices have their centres at
whole numbers, as affines do. Pixels are rounded to float16 precision, as the preprocessed files keep them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.imaging.fit import FittedImage, SliceFit, fit_slices
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.normalize import HIGH_PERCENTILE, LOW_PERCENTILE
from medmoe_cli.core.imaging.orientation import reorientation_of
from medmoe_cli.core.imaging.slices import slices_first


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePoints:
    """Where points of a volume lie on its slices.

    Attributes:
        index_N: the slice, clipped to those there are.
        native_N2: (x, y) in the slice's own pixels.
        input_N2: (x, y) in the network's input pixels.
    """

    index_N: NDArray[np.int64]
    native_N2: NDArray[np.float64]
    input_N2: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(SlicedScan):
    """An image as a 2D network sees it, slice by slice; nothing is computed before it is asked for.

    Attributes:
        fit: between a slice's own pixels and the network's square input.
        recent: the slices prepared last, which a 2.5D network is shown again as neighbours.
    """

    fit: SliceFit
    recent: dict[int, FittedImage] = field(default_factory=dict, repr=False, compare=False)

    def slice(self, index: int) -> FittedImage:
        """One slice as the network sees it: image (C, S, S) and valid (S, S).

        With `context_slices` k its channels are those of the slices index-k .. index+k, first slice first, each
        slice's own channels together; beyond the ends of the volume the edge slice is repeated. Of the image's
        channels those are shown that the plan names.

        Raises:
            DataError: values that the plan leaves as they are do not fit into half precision.
        """
        seen = self._amid_neighbours(index)
        places = self.plan.shown_positions
        return seen if places is None else FittedImage(image=seen.image[list(places)], valid=seen.valid)

    def _amid_neighbours(self, index: int) -> FittedImage:
        shown = shown_slices(index, num_slices=self.num_slices, context=self.plan.context_slices)
        if len(shown) == 1:
            return self.lone_slice(index)
        for neighbour in shown:
            if neighbour not in self.recent:
                self.recent[neighbour] = self.lone_slice(neighbour)
        for old in [kept for kept in self.recent if kept not in shown]:
            del self.recent[old]
        parts = [self.recent[neighbour] for neighbour in shown]
        return FittedImage(image=np.concatenate([part.image for part in parts]), valid=self.recent[index].valid)

    def lone_slice(self, index: int) -> FittedImage:
        """One slice without its neighbours, as preprocessed files keep it.

        Raises:
            DataError: values that the plan leaves as they are do not fit into half precision.
        """
        image, valid = self.fit.fit_image(self.native_slice(index))
        return FittedImage(image=round_to_half(image, self.image.header.path), valid=valid)

    def restore(self, maps_KSS: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities on the network's grid (K, S, S) back to a slice's own pixels (K, rows, cols)."""
        return self.fit.restore(maps_KSS)

    def points_to_pixels(self, points_N2: NDArray[Any]) -> NDArray[np.float64]:
        """Points (x, y) of the network's input in a slice's own pixels."""
        return self.fit.points_to_native(np.asarray(points_N2, float))

    def boxes_to_pixels(self, boxes_N4: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes of the network's input in a slice's own pixels."""
        return self.fit.boxes_to_native(np.asarray(boxes_N4, float))

    def to_slices(self, voxels_N3: NDArray[Any]) -> SlicePoints:
        """Voxel indices (x, y, z) of the file, not necessarily whole, as points on slices."""
        axis = self.plan.slice_axis
        canonical = self.turn.points_to_canonical(np.asarray(voxels_N3, float))
        across, down = (other for other in range(3) if other != axis)
        native = canonical[:, [across, down]] + 0.5
        index = np.clip(np.floor(canonical[:, axis] + 0.5).astype(np.int64), 0, self.num_slices - 1)
        return SlicePoints(index_N=index, native_N2=native, input_N2=self.fit.points_to_input(native))

    def to_voxels(self, index_N: NDArray[Any], native_N2: NDArray[Any]) -> NDArray[np.float64]:
        """Points (x, y) in slices' own pixels back to voxel indices (N, 3) of the file."""
        axis = self.plan.slice_axis
        across, down = (other for other in range(3) if other != axis)
        canonical = np.empty((len(native_N2), 3))
        canonical[:, axis] = index_N
        canonical[:, [across, down]] = np.asarray(native_N2, float) - 0.5
        return self.turn.points_to_source(canonical)


def shown_slices(index: int, *, num_slices: int, context: int) -> tuple[int, ...]:
    """The slices that a network is shown of a slice: itself amid `context` neighbours on each side, edges repeated."""
    return tuple(min(max(place, 0), num_slices - 1) for place in range(index - context, index + context + 1))


def prepare(image: Image, plan: Plan) -> Prepared:
    """Prepare an image for a 2D method.

    Raises:
        DataError: the image has another number of channels than the plan.
    """
    if plan.dims != 2:
        raise ValueError("prepare is for 2D methods")
    require_channels(image, plan)
    turn = reorientation_of(image.geometry)
    return Prepared(
        image=image,
        plan=plan,
        turn=turn,
        fit=fit_slices(turn.target, plan.slice_axis, plan.input_size),
        channels=image_windows(image, plan),
        slices_CNHW=slices_first(turn.apply(image.data), plan.slice_axis),
    )


def round_to_half(image: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """Round to the precision of preprocessed files; still float32.

    Raises:
        DataError: values that the plan leaves as they are do not fit.
    """
    with np.errstate(over="ignore"):
        rounded = image.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise DataError(
            "intensities beyond half precision",
            where=path,
            why=f"normalisation 'none' leaves values up to {np.abs(image).max():g}",
            fix="--set plan.normalization=percentile",
        )
    return rounded.astype(np.float32)


def require_channels(image: Image, plan: Plan) -> None:
    """Refuse an image that has another number of channels than the plan.

    Raises:
        DataError: it has.
    """
    if image.num_channels != len(plan.channels):
        names = ", ".join(channel.name for channel in plan.channels)
        raise DataError(
            "wrong number of channels",
            where=image.header.path,
            why=f"the image has {image.num_channels}, the plan {len(plan.channels)} ({names})",
            fix="give one file per channel, in the order of dataset.json",
        )


def image_windows(image: Image, plan: Plan) -> tuple[ChannelPlan, ...]:
    """The plan's channels with each per-image window computed, once for the whole image.

    'percentile' becomes a fixed window: its slices can then be normalised one by one.
    """
    channels = []
    for values, channel in zip(image.data, plan.channels, strict=True):
        if channel.normalization == "percentile":
            low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
            channels.append(ChannelPlan(name=channel.name, normalization="ct", low=float(low), high=float(high)))
        else:
            channels.append(channel)
    return tuple(channels)
