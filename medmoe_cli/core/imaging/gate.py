"""The NIfTI gate: a header is taken at its word only where its words agree.

Everything is checked on the header's bytes before a voxel is read, and all problems come in one line. Fields: the
NIfTI-1.1 and NIfTI-2 standards (nifti1.h, nifti2.h). The part about space is in `gate_space`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.imaging.gate_space import check_space
from medmoe_cli.core.imaging.geometry import Geometry

DTYPES: dict[int, np.dtype[Any]] = {
    2: np.dtype("u1"),
    4: np.dtype("i2"),
    8: np.dtype("i4"),
    16: np.dtype("f4"),
    64: np.dtype("f8"),
    128: np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]),
    256: np.dtype("i1"),
    512: np.dtype("u2"),
    768: np.dtype("u4"),
    1024: np.dtype("i8"),
    1280: np.dtype("u8"),
    2304: np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]),
}
"""NIfTI datatype codes that are read; complex, binary and 128-bit ones are not."""

# nibabel's classes carry no types.
_HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
HEADER_SIZES = tuple(_HEADERS)
_MAX_EXTENSION_BYTES = 256 << 20
_EXPORT_AGAIN = "export the scan again, or repair the header"


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedHeader:
    """A header that passed.

    Attributes:
        native: nibabel's header object, little-endian, repaired only where the standard says what is meant.
        dtype: of the voxels on disk, with their byte order.
        geometry: spatial shape and affine in mm (metres and microns are converted).
        num_channels: length of the fourth (or fifth) axis, 1 for 3D, 3 for colour voxels (alpha is dropped).
        offset: bytes before the first voxel.
        slope: the factor to apply, 1 when there is none.
        inter: what to add after it, 0 when there is none.
        notes: oddities that could be settled.
    """

    native: Any
    dtype: np.dtype[Any]
    geometry: Geometry
    num_channels: int
    offset: int
    slope: float
    inter: float
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Items of `dtype` on disk (a colour voxel is one)."""
        return math.prod(self.geometry.shape) * (1 if self.dtype.names else self.num_channels)

    @property
    def data_bytes(self) -> int:
        """Bytes of the items on disk."""
        return self.count * self.dtype.itemsize


def header_size(first_bytes: bytes, path: Path) -> tuple[int, Literal["<", ">"]]:
    """Size of the header and its byte order, from its first four bytes.

    Raises:
        DataError: it is no NIfTI header.
    """
    if len(first_bytes) >= 4:
        if int.from_bytes(first_bytes[:4], "little") in HEADER_SIZES:
            return int.from_bytes(first_bytes[:4], "little"), "<"
        if int.from_bytes(first_bytes[:4], "big") in HEADER_SIZES:
            return int.from_bytes(first_bytes[:4], "big"), ">"
    why = f"it starts with {first_bytes[:8]!r}"
    raise DataError("not a NIfTI file", where=path, why=why, fix="check what the file is, or export the scan again")


def check_header(block: bytes, path: Path) -> GatedHeader:
    """Check a complete header (348 or 540 bytes).

    Raises:
        GeometryError: only its space is wrong.
        DataError: anything else, with everything that is wrong.
    """
    size, order = header_size(block, path)
    if len(block) < size:
        why = f"{len(block)} of {size} bytes of header"
        raise DataError("truncated file", where=path, why=why, fix="copy or export the file again")
    header = _HEADERS[size](binaryblock=block[:size], endianness=order, check=False).as_byteswapped("<")

    problems = [*_magic_problems(header), *_offset_problems(header, size), *_scaling_problems(header)]
    dtype = DTYPES.get(int(header["datatype"]))
    problems += _dtype_problems(header, dtype)
    problems += _dim_problems(header)
    if problems or dtype is None:
        raise DataError("bad NIfTI header", where=path, why="; ".join(problems), fix=_EXPORT_AGAIN)

    shape, num_channels = _split_dim(header)
    if dtype.names:
        num_channels = 3
    space = check_space(header, shape)
    if space.problems:
        raise GeometryError("bad NIfTI geometry", where=path, why="; ".join(space.problems), fix=_EXPORT_AGAIN)
    slope, inter = _scaling(header)
    return GatedHeader(
        native=header,
        dtype=dtype.newbyteorder(order),
        geometry=Geometry(shape=shape, affine=space.affine),
        num_channels=num_channels,
        offset=int(header["vox_offset"]),
        slope=slope,
        inter=inter,
        notes=space.notes,
    )


def _magic_problems(header: Any) -> list[str]:
    magic = bytes(header["magic"].item()).rstrip(b"\0")
    if magic.startswith((b"n+1", b"n+2")):
        return []
    if magic.startswith((b"ni1", b"ni2")):
        return ["voxels in a separate .img file, which is not read (convert the pair to one .nii.gz)"]
    return [f"magic is {magic!r}, not n+1 or n+2"]


def _dim_problems(header: Any) -> list[str]:
    dim = [int(value) for value in header["dim"]]
    num_dims = dim[0]
    if not 2 <= num_dims <= 7:
        return [f"dim[0] is {num_dims}, an image has 2 to 7 axes"]
    if any(value < 1 for value in dim[1 : num_dims + 1]):
        return [f"axes of length {dim[1 : num_dims + 1]}"]
    extra = dim[4 : num_dims + 1]
    if sum(value > 1 for value in extra) > 1:
        return [f"more than one axis beyond x y z: {dim[1 : num_dims + 1]}"]
    return []


def _split_dim(header: Any) -> tuple[tuple[int, int, int], int]:
    dim = [int(value) for value in header["dim"]]
    axes = [*dim[1 : dim[0] + 1], 1][: max(dim[0], 3)]
    return (axes[0], axes[1], axes[2]), math.prod(axes[3:])


def _dtype_problems(header: Any, dtype: np.dtype[Any] | None) -> list[str]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if dtype is None:
        return [f"datatype code {code} is not read"]
    if bits != dtype.itemsize * 8:
        return [f"bitpix is {bits}, datatype code {code} has {dtype.itemsize * 8} bits"]
    if dtype.names and int(header["dim"][0]) > 3 and math.prod(int(n) for n in header["dim"][4:5]) > 1:
        return ["colour voxels with a fourth axis"]
    return []


def _offset_problems(header: Any, size: int) -> list[str]:
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset):
        return [f"vox_offset is {offset}"]
    if offset < size + 4:
        return [f"vox_offset is {offset:.0f}, inside the header"]
    if offset > size + _MAX_EXTENSION_BYTES:
        return [f"vox_offset is {offset:.0f}"]
    return []


def _scaling_problems(header: Any) -> list[str]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope):
        return [f"scl_slope is {slope}"]
    if slope != 0 and math.isfinite(slope) and not math.isfinite(inter):
        return [f"scl_inter is {inter}"]
    return []


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; 0 and NaN slopes mean that there is no scaling."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    return slope, inter
