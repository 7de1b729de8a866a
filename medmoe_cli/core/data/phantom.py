"""Phantom scans: abdomens of smooth shapes seen by a CT-like and an MR-like scanner, labelled exactly.

For the demo and for trying a workflow without data. The two modalities share anatomy but not contrast, noise or bias,
so that one intensity never tells the organ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.imaging.geometry import Geometry

ORGANS: dict[str, int] = {"liver": 1, "spleen": 2, "aorta": 3}

# Organ: centre (x, y, z) and radii as fractions of the grid, intensity in CT (HU) and in MR (arbitrary units).
_SHAPES = {
    "liver": ((0.34, 0.45, 0.50), (0.19, 0.20, 0.40), 110.0, 420.0),
    "spleen": ((0.72, 0.50, 0.55), (0.09, 0.14, 0.30), 95.0, 640.0),
    "aorta": ((0.52, 0.62, 0.50), (0.055, 0.055, 2.0), 160.0, 120.0),
}
_BODY = ((0.5, 0.5, 0.5), (0.45, 0.38, 2.0), 20.0, 260.0)
_AIR = (-1000.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Phantom:
    """One phantom scan.

    Attributes:
        image: int16 (X, Y, Z).
        labels: uint8 (X, Y, Z), values of `ORGANS`.
        geometry: anisotropic, axial slices.
        modality: 'CT' or 'MR'.
    """

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    geometry: Geometry
    modality: str


def make_phantom(
    seed: int, *, modality: str, shape: tuple[int, int, int] = (96, 80, 16), spacing_mm: tuple[float, float, float]
) -> Phantom:
    """Draw one scan; equal arguments give equal voxels."""
    rng = generator("phantom", seed)
    mr = modality == "MR"
    grid = np.meshgrid(*((np.arange(size) + 0.5) / size for size in shape), indexing="ij")
    bend = [ndimage.gaussian_filter(rng.standard_normal(shape), [size / 8 for size in shape]) for _ in range(2)]
    warped = [grid[axis] + 0.035 * bend[axis] / max(float(np.abs(bend[axis]).max()), 1e-6) for axis in range(2)]
    coordinates = [*warped, grid[2]]
    image = np.full(shape, _AIR[mr], np.float32)
    labels = np.zeros(shape, np.uint8)
    body = _inside(coordinates, _BODY[0], _BODY[1])
    image[body] = _BODY[2 + mr]
    for name, value in ORGANS.items():
        centre, radii, *levels = _SHAPES[name]
        moved = np.array(centre) + rng.uniform(-0.03, 0.03, 3)
        grown = np.array(radii) * rng.uniform(0.85, 1.15)
        organ = _inside(coordinates, moved, grown) & body & (labels == 0)
        labels[organ] = value
        image[organ] = levels[mr] * rng.uniform(0.92, 1.08)
    smooth = np.asarray(ndimage.gaussian_filter(image, (0.7, 0.7, 0.0)), np.float64)
    if mr:
        bias = ndimage.gaussian_filter(rng.standard_normal(shape), [size / 4 for size in shape])
        smooth *= 1 + 0.25 * bias / max(float(np.abs(bias).max()), 1e-6)
    smooth += rng.standard_normal(shape) * (35.0 if mr else 18.0)
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = [shape[0] * spacing_mm[0] / 2, shape[1] * spacing_mm[1] / 2, -40.0]
    return Phantom(
        image=smooth.round().astype(np.int16),
        labels=labels,
        geometry=Geometry(shape=shape, affine=affine),
        modality=modality,
    )


def _inside(
    grid: Sequence[NDArray[np.floating]],
    centre: Sequence[float] | NDArray[np.floating],
    radii: Sequence[float] | NDArray[np.floating],
) -> NDArray[np.bool_]:
    total = sum(((grid[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3))
    return np.asarray(total) <= 1
