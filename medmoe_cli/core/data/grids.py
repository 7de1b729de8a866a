"""Do an image and its label lie on the same grid? Three verdicts: same, near (rounding), different."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header

_SAME_MM = 1e-3
_NEAR_VOXELS = 0.1
_WITHOUT_SPACE = frozenset({"png", "jpg", "tiff"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Where an image or label lies, and the header that says so."""

    geometry: Geometry
    header: Header


@dataclass(frozen=True, kw_only=True, slots=True)
class GridVerdict:
    """`near` grids differ by less than a tenth of a voxel anywhere: one header can serve both."""

    kind: Literal["same", "near", "different"]
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join(self.differences)


def compare_grids(image: Grid, label: Grid) -> GridVerdict:
    """Compare a label's or channel's grid with its image's.

    Pictures, and volumes whose header gives no orientation at all, are compared by shape alone.
    """
    one, other = image.geometry, label.geometry
    if one.shape != other.shape:
        differences = one.differences(other) if has_space(image.header) and has_space(label.header) else []
        differences = differences or [f"shape {_shape(one)} against {_shape(other)}"]
        if sorted(one.shape) == sorted(other.shape):
            differences[0] += " (axes are swapped)"
        return GridVerdict(kind="different", differences=tuple(differences))
    if not (has_space(image.header) and has_space(label.header)):
        return GridVerdict(kind="same")
    distance = one.corner_distance_mm(other)
    if distance <= _SAME_MM:
        return GridVerdict(kind="same")
    differences = one.differences(other)
    kind: Literal["near", "different"] = "near" if distance <= _NEAR_VOXELS * min(one.spacing_mm) else "different"
    return GridVerdict(kind=kind, differences=tuple(differences))


def has_space(header: Header) -> bool:
    """True for files that say where their voxels are."""
    if header.format in _WITHOUT_SPACE:
        return False
    if header.format == "nifti" and header.native is not None:
        return int(header.native["sform_code"]) > 0 or int(header.native["qform_code"]) > 0
    return True


def _shape(geometry: Geometry) -> str:
    return "x".join(map(str, geometry.shape))
