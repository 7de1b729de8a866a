"""The network's square grid of a slice: the long physical side fills it, the rest is padding at the right and bottom.

Coordinates are (x, y) = (column, row) in pixels, with pixel i covering [i, i+1): its centre is i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.separable import resize
from medmoe_cli.core.imaging.vote import vote


class FittedImage(NamedTuple):
    """A slice on the network's grid: image (C, S, S) float32, and valid (S, S), False on padding."""

    image: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceFit:
    """The way of a slice to the network's grid and back; make it with `fit_slice`.

    Attributes:
        rows, cols: native size in pixels.
        spacing_mm: native pixel size (row_mm, col_mm): distance between rows, between columns.
        input_size: side of the square grid.
        resized_rows, resized_cols: the part of the grid that the slice fills.
    """

    rows: int
    cols: int
    spacing_mm: tuple[float, float]
    input_size: int
    resized_rows: int
    resized_cols: int

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels per native pixel along x and y."""
        return self.resized_cols / self.cols, self.resized_rows / self.rows

    @property
    def input_spacing_mm(self) -> tuple[float, float]:
        """Size of an input pixel (row_mm, col_mm)."""
        x, y = self.scale_xy
        return self.spacing_mm[0] / y, self.spacing_mm[1] / x

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Mask (S, S): False on padding."""
        out = np.zeros((self.input_size, self.input_size), bool)
        out[: self.resized_rows, : self.resized_cols] = True
        return out

    def fit_image(self, slice_CHW: NDArray[Any]) -> FittedImage:
        """Resize (C, rows, cols), without aliasing when it shrinks; padding is 0.

        Returns:
            image (C, S, S) float32 and valid (S, S).
        """
        self._require(slice_CHW.shape[-2:])
        out = np.zeros((slice_CHW.shape[0], self.input_size, self.input_size), np.float32)
        resized = resize(slice_CHW, (self.resized_rows, self.resized_cols), "linear")
        out[:, : self.resized_rows, : self.resized_cols] = resized
        return FittedImage(image=out, valid=self.valid)

    def fit_label(self, label_HW: NDArray[Any]) -> NDArray[Any]:
        """Resize (rows, cols) to (S, S) without making up values; padding is 0.

        Where it shrinks, the class that covers most of an output pixel wins (a tie goes to the one at its centre).
        """
        self._require(label_HW.shape)
        shape = (self.resized_rows, self.resized_cols)
        out = np.zeros((self.input_size, self.input_size), label_HW.dtype)
        out[: shape[0], : shape[1]] = vote(label_HW, shape)
        return out

    def restore(self, maps_KSS: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities or logits (K, S, S) back to (K, rows, cols), bilinear; padding is cut off first."""
        return resize(maps_KSS[..., : self.resized_rows, : self.resized_cols], (self.rows, self.cols), "linear")

    def points_to_input(self, points_N2: NDArray[Any]) -> NDArray[np.float64]:
        """Native (x, y) to input (x, y)."""
        return np.asarray(points_N2, float) * self.scale_xy

    def points_to_native(self, points_N2: NDArray[Any]) -> NDArray[np.float64]:
        """Input (x, y) to native (x, y)."""
        return np.asarray(points_N2, float) / self.scale_xy

    def boxes_to_input(self, boxes_N4: NDArray[Any]) -> NDArray[np.float64]:
        """Native (x0, y0, x1, y1), edges of pixels, to input ones."""
        return np.asarray(boxes_N4, float) * (self.scale_xy * 2)

    def boxes_to_native(self, boxes_N4: NDArray[Any]) -> NDArray[np.float64]:
        """Input (x0, y0, x1, y1) to native ones."""
        return np.asarray(boxes_N4, float) / (self.scale_xy * 2)

    def _require(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != (self.rows, self.cols):
            raise ValueError(f"a slice of {tuple(shape)} where {(self.rows, self.cols)} is fitted")


def fit_slice(rows: int, cols: int, *, spacing_mm: tuple[float, float], input_size: int) -> SliceFit:
    """Fit a slice of rows x cols pixels of (row_mm, col_mm) into a square of `input_size` pixels.

    The long physical side becomes `input_size`; pixels come out square in mm (up to rounding to whole pixels).
    """
    height_mm, width_mm = rows * spacing_mm[0], cols * spacing_mm[1]
    pixels_per_mm = input_size / max(height_mm, width_mm)
    return SliceFit(
        rows=rows,
        cols=cols,
        spacing_mm=spacing_mm,
        input_size=input_size,
        resized_rows=min(max(round(height_mm * pixels_per_mm), 1), input_size),
        resized_cols=min(max(round(width_mm * pixels_per_mm), 1), input_size),
    )


def fit_slices(geometry: Geometry, slice_axis: int, input_size: int) -> SliceFit:
    """The fit of a (canonical) volume's slices across `slice_axis`, as `slices.take_slice` cuts them."""
    col_axis, row_axis = (axis for axis in range(3) if axis != slice_axis)
    spacing = geometry.spacing_mm
    return fit_slice(
        geometry.shape[row_axis],
        geometry.shape[col_axis],
        spacing_mm=(spacing[row_axis], spacing[col_axis]),
        input_size=input_size,
    )
