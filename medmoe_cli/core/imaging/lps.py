"""Geometry from formats that speak LPS (ITK, NRRD, DICOM), and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import GeometryError
from medmoe_cli.core.imaging.gate_space import affine_problems, size_problems
from medmoe_cli.core.imaging.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def geometry_from_lps(
    shape: tuple[int, int, int],
    columns_33: NDArray[Any],
    origin_mm: NDArray[Any],
    path: Path,
) -> Geometry:
    """A checked Geometry.

    Args:
        shape: voxels along x, y, z.
        columns_33: column a is the step in LPS mm from one voxel to the next along axis a.
        origin_mm: LPS position of voxel 0.
        path: for the message.

    Raises:
        GeometryError: it is no scan's.
    """
    affine = np.eye(4)
    affine[:3, :3] = columns_33
    affine[:3, 3] = origin_mm
    affine = LPS_TO_RAS @ affine
    problems = affine_problems(affine, "the direction matrix")
    geometry = Geometry(shape=shape, affine=affine)
    problems = problems or size_problems(geometry)
    if problems:
        fix = "export the scan again, or repair the header"
        raise GeometryError("bad geometry", where=path, why="; ".join(problems), fix=fix)
    return geometry


def lps_columns(geometry: Geometry) -> NDArray[np.float64]:
    """The inverse of `geometry_from_lps`: 3x4, steps along the axes as columns, then the origin, in LPS mm."""
    return np.asarray((LPS_TO_RAS @ geometry.affine)[:3])
