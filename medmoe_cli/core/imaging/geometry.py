"""Geometry: the only carrier of space.

Axis order is the file's own voxel order (i, j, k), called xyz here; affines map voxel indices to RAS+ millimetres,
as NIfTI does. A 2D image is a volume of one slice: shape (columns, rows, 1), LPS-directed, so that its rows run
down the screen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """A voxel grid in space.

    Attributes:
        shape: voxels along x, y, z.
        affine: 4x4 float64, voxel (x, y, z, 1) to RAS millimetres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        sides = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(sides[0]), float(sides[1]), float(sides[2])

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the whole grid along x, y, z in mm."""
        x, y, z = self.spacing_mm
        return self.shape[0] * x, self.shape[1] * y, self.shape[2] * z

    @property
    def diagonal_mm(self) -> float:
        """Length of the grid's space diagonal in mm."""
        return float(np.linalg.norm(self.extent_mm))

    def to_mm(self, voxels_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map voxel indices (N, 3) to RAS mm."""
        return np.asarray(voxels_N3, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, points_mm_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map RAS mm (N, 3) to continuous voxel indices."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(points_mm_N3, float) @ inverse[:3, :3].T + inverse[:3, 3])

    def differences(self, other: Geometry, *, tolerance_mm: float = 1e-3) -> list[str]:
        """What differs, as phrases with both values; empty when the grids agree.

        Affines are compared by where they put the grid's corners, in mm.
        """
        found: list[str] = []
        if self.shape != other.shape:
            found.append(f"shape {_triple(self.shape)} against {_triple(other.shape)}")
        if not np.allclose(self.spacing_mm, other.spacing_mm, atol=tolerance_mm):
            found.append(f"spacing {_mm(self.spacing_mm)} against {_mm(other.spacing_mm)} mm")
        mine = self.affine[:3, :3] / self.spacing_mm
        theirs = other.affine[:3, :3] / other.spacing_mm
        if not np.allclose(mine, theirs, atol=1e-3):
            found.append("direction differs")
        shift = float(np.linalg.norm(self.affine[:3, 3] - other.affine[:3, 3]))
        if shift > tolerance_mm:
            found.append(f"origin shifted by {shift:.3g} mm")
        if not found and self.corner_distance_mm(other) > tolerance_mm:
            found.append(f"corners up to {self.corner_distance_mm(other):.3g} mm apart")
        return found

    def corner_distance_mm(self, other: Geometry) -> float:
        """Largest distance in mm between the two grids' corresponding corners."""
        corners = np.array(
            [(x, y, z) for x in (0, self.shape[0]) for y in (0, self.shape[1]) for z in (0, self.shape[2])], float
        )
        return float(np.abs(self.to_mm(corners) - other.to_mm(corners)).max())

    @classmethod
    def plain(cls, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Geometry:
        """A grid for files that carry none: LPS-directed, origin at zero."""
        affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
        return cls(shape=shape, affine=affine)


def _triple(values: tuple[int, int, int]) -> str:
    return "x".join(str(value) for value in values)


def _mm(values: tuple[float, float, float]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
