"""Which way the axes of TransUNet's arrays run: from the files' description, corrected by what the organs show.

The arrays carry no header. TransUNet's slices lie on their side (rows run left-right, columns front to back), SAMed's
stand upright; which end is the patient's right is written nowhere. The organs say it: the spleen is left of the liver,
the kidneys are behind it and below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry

SEEN = "directions of the axes are those that liver, spleen and kidneys show"
PARTLY = "directions of the axes are not all shown by the organs (left-right, front-back or up-down is an assumption)"
TURNED = "rows and columns are not as files of this label scheme have them; the organs' places are followed"
_FEW_VOXELS = 50
_CLEAR_SHARE = 0.03
"""Organs must be this much of an axis apart to tell its direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Organs:
    """The values of the organs that tell directions."""

    liver: int
    spleen: int
    kidneys: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Directions:
    """How (slices, rows, columns) become x, y, z.

    Attributes:
        x_axis: 1 where rows run left-right, 2 where columns do.
        to_left: whether x rises towards the patient's left.
        to_back: whether y rises towards the back.
        to_head: whether z rises towards the head.
        notes: what was shown by the organs and what was assumed.
    """

    x_axis: int
    to_left: bool
    to_back: bool
    to_head: bool
    notes: tuple[str, ...]

    @property
    def axes(self) -> str:
        """Where x, y and z run to, in letters: LPS."""
        return ("L" if self.to_left else "R") + ("P" if self.to_back else "A") + ("S" if self.to_head else "I")

    def volume(self, array_DAB: NDArray[Any]) -> NDArray[Any]:
        """(slices, rows, columns) as (X, Y, Z); no voxel changes its neighbours."""
        return np.ascontiguousarray(array_DAB.transpose(self.x_axis, 3 - self.x_axis, 0))

    def geometry(self, shape_XYZ: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Geometry:
        """The grid, its first voxel at the origin."""
        rising = (not self.to_left, not self.to_back, self.to_head)  # in RAS
        steps = [side if up else -side for side, up in zip(spacing_mm, rising, strict=True)]
        return Geometry(shape=shape_XYZ, affine=np.diag([*steps, 1.0]))


def directions(label_DAB: NDArray[Any], organs: Organs, *, documented_x_axis: int) -> Directions:
    """Directions of one case.

    Args:
        label_DAB: its label map.
        organs: values in it.
        documented_x_axis: 1 or 2, as files of this kind are described.
    """
    liver, spleen = _centre(label_DAB, (organs.liver,)), _centre(label_DAB, (organs.spleen,))
    kidneys = _centre(label_DAB, organs.kidneys)
    sideways = None if liver is None or spleen is None else spleen - liver
    down = None if liver is None or kidneys is None else kidneys - liver
    x_axis = documented_x_axis
    if sideways is not None and np.abs(sideways[1:]).max() > 2 * np.abs(sideways[1:]).min():
        x_axis = 1 + int(np.abs(sideways[1:]).argmax())
    shown = [_sign(sideways, x_axis, label_DAB), _sign(down, 3 - x_axis, label_DAB), _sign(down, 0, label_DAB)]
    notes = [SEEN if None not in shown else PARTLY]
    if x_axis != documented_x_axis:
        notes.append(TURNED)
    to_left, to_back, to_feet = shown
    return Directions(
        x_axis=x_axis,
        to_left=to_left is not False,
        to_back=to_back is not False,
        to_head=to_feet is not True,
        notes=tuple(notes),
    )


def _centre(label_DAB: NDArray[Any], values: Sequence[int]) -> NDArray[np.float64] | None:
    """Centre of mass of values; None where there is hardly any."""
    mask = np.isin(label_DAB, values)
    if int(mask.sum()) < _FEW_VOXELS:
        return None
    return np.array([np.average(np.arange(n), weights=_profile(mask, axis)) for axis, n in enumerate(mask.shape)])


def _profile(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    return np.asarray(mask.sum(axis=tuple(other for other in range(3) if other != axis)))


def _sign(offset: NDArray[np.float64] | None, axis: int, label_DAB: NDArray[Any]) -> bool | None:
    """Whether an offset rises along an axis; None where it does not tell."""
    if offset is None or abs(offset[axis]) < _CLEAR_SHARE * label_DAB.shape[axis]:
        return None
    return bool(offset[axis] > 0)
