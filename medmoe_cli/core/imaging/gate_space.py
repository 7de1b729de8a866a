"""The part of the NIfTI gate that is about space: pixdim, qform, sform, units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry

MAX_SHEAR_DEGREES = 3.0
"""No scan's axes are farther from orthogonal; rounded headers (ACDC, TotalSegmentator) are far below."""

SPACING_TOLERANCE = 1e-2
"""Relative difference allowed between pixdim and the length of the sform's columns."""

MAX_EXTENT_MM = 20_000.0
MIN_SPACING_MM = 1e-6
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """What the header says about space.

    Attributes:
        affine: voxel to RAS mm; the sform's, else the qform's, else pixdim alone (as nibabel does).
        problems: contradictions that cannot be settled.
        notes: oddities that can.
    """

    affine: NDArray[np.float64]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_space(header: Any, shape: tuple[int, int, int]) -> Space:
    """Judge the spatial fields of a header; missing third-axis sizes and qfac are filled in `header` itself."""
    num_axes = min(int(header["dim"][0]), 3)
    notes: list[str] = []
    problems = _pixdim_problems(header, num_axes) + _code_problems(header)
    if problems:
        return Space(affine=np.eye(4), problems=tuple(problems), notes=())
    for axis in range(num_axes + 1, 4):
        if not _positive(float(header["pixdim"][axis])):
            header["pixdim"][axis] = _missing_size(header, axis)
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1.0  # nifti1.h: 0 means 1

    sform = qform = None
    if header["sform_code"] > 0:
        sform = np.array([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]], float)
        problems += affine_problems(sform, "sform")
        if not problems:
            problems += _spacing_problems(sform, header, num_axes)
    if header["qform_code"] > 0:
        qform, found = _qform(header)
        problems += found
    if problems:
        return Space(affine=np.eye(4), problems=tuple(problems), notes=())

    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        notes.append(f"unknown spatial unit {unit}, taken as mm")
    to_mm = np.diag([_MM_PER_UNIT.get(unit, 1.0)] * 3 + [1.0])
    if sform is not None and qform is not None:
        _compare(to_mm @ sform, to_mm @ qform, shape, problems, notes)
    affine = sform if sform is not None else qform
    if affine is None:
        affine = np.asarray(header.get_base_affine(), float)
        notes.append("no orientation: neither sform nor qform is set")
    affine = to_mm @ affine
    problems += size_problems(Geometry(shape=shape, affine=affine), unit)
    return Space(affine=affine, problems=tuple(problems), notes=tuple(notes))


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _missing_size(header: Any, axis: int) -> float:
    """The size of an axis that a 2D header leaves out: the sform's, else 1."""
    column = [float(header[row][axis - 1]) for row in ("srow_x", "srow_y", "srow_z")]
    length = math.hypot(*column)
    return length if header["sform_code"] > 0 and _positive(length) else 1.0


def _pixdim_problems(header: Any, num_axes: int) -> list[str]:
    pixdim = [float(value) for value in header["pixdim"]]
    found = [f"pixdim[{axis}] is {pixdim[axis]:g}" for axis in range(1, num_axes + 1) if not _positive(pixdim[axis])]
    if pixdim[0] not in (-1.0, 0.0, 1.0):
        found.append(f"qfac (pixdim[0]) is {pixdim[0]:g}, not 1 or -1")
    return found


def _code_problems(header: Any) -> list[str]:
    names = ("qform_code", "sform_code")
    return [f"{name} is {int(header[name])}" for name in names if not 0 <= int(header[name]) <= 5]


def affine_problems(affine: NDArray[np.float64], name: str) -> list[str]:
    """Why an affine cannot be a scan's: not finite, singular or sheared; empty when it can."""
    if not np.isfinite(affine).all():
        return [f"{name} has values that are not finite"]
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths == 0).any():
        return [f"{name} is singular: an axis has length 0"]
    unit = affine[:3, :3] / lengths
    cosine = max(abs(float(unit[:, a] @ unit[:, b])) for a, b in ((0, 1), (0, 2), (1, 2)))
    if cosine > math.sin(math.radians(MAX_SHEAR_DEGREES)):
        degrees = math.degrees(math.asin(min(cosine, 1.0)))
        return [f"{name} is sheared: its axes are {degrees:.1f} degrees from orthogonal"]
    return []


def _spacing_problems(sform: NDArray[np.float64], header: Any, num_axes: int) -> list[str]:
    lengths = np.linalg.norm(sform[:3, :3], axis=0)[:num_axes]
    pixdim = np.asarray(header["pixdim"], float)[1 : num_axes + 1]
    if np.allclose(lengths, pixdim, rtol=SPACING_TOLERANCE, atol=0):
        return []
    return [f"voxel sizes differ: {_numbers(lengths)} in the sform, {_numbers(pixdim)} in pixdim"]


def _qform(header: Any) -> tuple[NDArray[np.float64] | None, list[str]]:
    """The qform's affine (nifti1.h, method 2), or what is wrong with it."""
    bcd = np.array([header["quatern_b"], header["quatern_c"], header["quatern_d"]], float)
    offset = np.array([header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]], float)
    if not np.isfinite(bcd).all() or not np.isfinite(offset).all():
        return None, ["qform has values that are not finite"]
    norm = float(np.linalg.norm(bcd))
    if norm > 1 + 1e-3:
        return None, [f"qform is no rotation: its quaternion has length {norm:.4g}"]
    if norm > 1:  # rounding: a half turn whose vector part came out a little too long
        bcd /= norm
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = bcd
    affine = np.eye(4)
    zooms = np.asarray(header["pixdim"], float)[1:4] * [1.0, 1.0, float(header["pixdim"][0])]
    affine[:3, :3] = _rotation(bcd) * zooms
    affine[:3, 3] = offset
    return affine, []


def _rotation(bcd: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation of a unit quaternion given without its (non-negative) real part."""
    b, c, d = (float(value) for value in bcd)
    a = math.sqrt(max(1 - (b * b + c * c + d * d), 0.0))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _compare(
    sform: NDArray[np.float64],
    qform: NDArray[np.float64],
    shape: tuple[int, int, int],
    problems: list[str],
    notes: list[str],
) -> None:
    """The two may differ (sform in a template's space, qform in the scanner's), but not in where left is."""
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        problems.append("sform and qform have opposite handedness: one of them swaps left and right")
        return
    if ((sform[:3, :3] * qform[:3, :3]).sum(axis=0) < 0).any():
        problems.append("sform and qform point an axis in opposite directions")
        return
    one, other = Geometry(shape=shape, affine=sform), Geometry(shape=shape, affine=qform)
    distance = one.corner_distance_mm(other)
    if distance > max(0.01, 0.1 * min(one.spacing_mm)):
        notes.append(f"sform and qform differ by up to {distance:.3g} mm; the sform is used")


def size_problems(geometry: Geometry, unit: int = 0) -> list[str]:
    """Why a grid's size cannot be a scan's; `unit` is the NIfTI code (1: metres)."""
    found = []
    if max(geometry.extent_mm) > MAX_EXTENT_MM:
        where = " (the header's unit is metres)" if unit == 1 else ""
        found.append(f"the grid is {max(geometry.extent_mm) / 1000:.3g} m long{where}")
    if min(geometry.spacing_mm) < MIN_SPACING_MM:
        found.append(f"a voxel side of {min(geometry.spacing_mm):.2g} mm")
    return found


def _numbers(values: NDArray[np.float64]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
