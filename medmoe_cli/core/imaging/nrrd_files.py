"""NRRD files in and out: pynrrd reads and writes the header, the voxels go through `payload`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.lps import LPS_TO_RAS, geometry_from_lps, lps_columns

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names}
_TO_LPS = {
    "left-posterior-superior": np.diag([1.0, 1.0, 1.0]),
    "lps": np.diag([1.0, 1.0, 1.0]),
    "right-anterior-superior": np.diag([-1.0, -1.0, 1.0]),
    "ras": np.diag([-1.0, -1.0, 1.0]),
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0]),
    "las": np.diag([1.0, -1.0, 1.0]),
}
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "m": 1000.0, "meter": 1000.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3}
_MM_PER_UNIT |= {"": 1.0, "none": 1.0}
# What pynrrd raises on a header that is not as it should be.
_HEADER_ERRORS = (nrrd.NRRDError, ValueError, KeyError, TypeError, IndexError, OverflowError, StopIteration, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parsed:
    geometry: Geometry
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    channel_axis: int | None
    compressed: bool
    end_of_header: int


def read_nrrd(path: Path) -> Image:
    """Read a .nrrd completely: voxels (C, X, Y, Z).

    Raises:
        DataError, GeometryError: whatever is wrong with it.
    """
    parsed = _parse(path)
    count = math.prod(parsed.sizes)
    with payload.open_file(path) as file:
        available = path.stat().st_size - parsed.end_of_header
        payload.check_declared_size(
            path, count * parsed.dtype.itemsize, available_bytes=available, compressed=parsed.compressed
        )
        file.seek(parsed.end_of_header)
        stream: payload.Readable = payload.ZlibStream(file) if parsed.compressed else file
        flat = payload.read_voxels(stream, parsed.dtype, count, path)
    payload.require_finite(flat, parsed.sizes, path)
    array = flat.reshape(parsed.sizes, order="F")
    channels = array[None] if parsed.channel_axis is None else np.moveaxis(array, parsed.channel_axis, 0)
    data = channels.reshape(len(channels), *parsed.geometry.shape)
    return Image(data=data, geometry=parsed.geometry, header=Header(format="nrrd", path=path))


def nrrd_geometry(path: Path) -> Geometry:
    """The grid, from the header alone.

    Raises:
        DataError, GeometryError: the header is wrong.
    """
    return _parse(path).geometry


def write_nrrd(path: Path, data: NDArray[Any], geometry: Geometry) -> None:
    """Write (X, Y, Z) or (C, X, Y, Z) to `path`, gzip; the caller makes it atomic."""
    data = data[0] if data.ndim == 4 and len(data) == 1 else data
    steps = lps_columns(geometry)
    directions, kinds = [list(column) for column in steps[:, :3].T], ["domain"] * 3
    header: dict[str, Any] = {"space": "left-posterior-superior", "encoding": "gzip", "space origin": steps[:, 3]}
    if data.ndim == 4:
        header["space directions"] = np.array([[math.nan] * 3, *directions])
        header["kinds"] = ["vector", *kinds]
    else:
        header["space directions"] = np.array(directions)
        header["kinds"] = kinds
    nrrd.write(str(path), np.asarray(data), header, index_order="F", compression_level=1)


def _parse(path: Path) -> _Parsed:
    with payload.open_file(path) as file:
        if payload.read_block(file, 4, path) != b"NRRD":
            raise DataError("not a NRRD file", where=path, why="it does not start with NRRD", fix="check what it is")
        file.seek(0)
        try:
            header = dict(nrrd.read_header(file))
            end = file.tell()
        except _HEADER_ERRORS as error:
            raise _bad(path, str(error) or type(error).__name__) from error
    try:
        return _interpret(header, end, path)
    except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
        raise _bad(path, f"{type(error).__name__}: {error}") from error


def _interpret(header: dict[str, Any], end: int, path: Path) -> _Parsed:
    if "data file" in header or "datafile" in header:
        raise _bad(path, "voxels in a separate file, which is not read")
    for skip in ("line skip", "byte skip", "lineskip", "byteskip"):
        if int(header.get(skip, 0)) != 0:
            raise _bad(path, f"'{skip}' is not read")
    encoding = str(header["encoding"]).lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise _bad(path, f"encoding '{encoding}' is not read, only raw and gzip")
    kind = str(header["type"]).lower()
    if kind not in _DTYPES:
        raise _bad(path, f"type '{kind}' is not read")
    dtype = np.dtype(_DTYPES[kind])
    if dtype.itemsize > 1:
        endian = str(header["endian"]).lower()
        if endian not in ("little", "big"):
            raise _bad(path, f"endian '{endian}'")
        dtype = dtype.newbyteorder("<" if endian == "little" else ">")
    sizes = tuple(int(size) for size in header["sizes"])
    if len(sizes) != int(header["dimension"]) or min(sizes) < 1 or not 2 <= len(sizes) <= 4:
        raise _bad(path, f"sizes {sizes} with dimension {header['dimension']}")
    channel_axis = _channel_axis(header, len(sizes), path)
    spatial = [axis for axis in range(len(sizes)) if axis != channel_axis]
    shape = [*(sizes[axis] for axis in spatial), 1][:3]
    return _Parsed(
        geometry=_geometry(header, (shape[0], shape[1], shape[2]), spatial, path),
        dtype=dtype,
        sizes=sizes,
        channel_axis=channel_axis,
        compressed=encoding != "raw",
        end_of_header=end,
    )


def _channel_axis(header: dict[str, Any], num_dims: int, path: Path) -> int | None:
    """The axis that is not space: without a direction, or with a kind that says so."""
    rows = header.get("space directions")
    if rows is not None:
        empty = [axis for axis, row in enumerate(rows) if row is None or not np.isfinite(np.asarray(row, float)).all()]
    else:
        kinds = [str(kind).lower() for kind in header.get("kinds", [])]
        empty = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "none", "???")]
    if num_dims == 4 and not empty:
        empty = [3]
    if len(empty) > 1 or (len(empty) == 1 and num_dims == 2):
        raise _bad(path, "not exactly two or three spatial axes")
    return empty[0] if empty else None


def _geometry(header: dict[str, Any], shape: tuple[int, int, int], spatial: list[int], path: Path) -> Geometry:
    steps, origin = np.eye(3), np.zeros(3)
    rows = header.get("space directions")
    if rows is None:
        spacings = np.asarray(header.get("spacings", np.ones(len(header["sizes"]))), float)[spatial]
        spacings = np.where(np.isfinite(spacings), spacings, 1.0)
        if (spacings <= 0).any():
            raise _bad(path, f"spacings {spacings.tolist()}")
        steps[range(len(spacings)), range(len(spacings))] = spacings
        return geometry_from_lps(shape, steps, origin, path)
    space = str(header.get("space", "left-posterior-superior")).lower()
    vectors = np.array([np.asarray(rows[axis], float) for axis in spatial])
    if vectors.shape[1] == 3 and space not in _TO_LPS:
        raise _bad(path, f"space '{space}' is not read")
    dims = vectors.shape[1]
    steps[:dims, : len(vectors)] = vectors.T
    if len(vectors) == 2 and dims == 3:  # one slice in space: the third step is its normal
        normal = np.cross(vectors[0], vectors[1])
        steps[:, 2] = normal / (np.linalg.norm(normal) or 1.0)
    origin[:dims] = np.asarray(header.get("space origin", np.zeros(dims)), float)
    units = {str(unit).strip('"').lower() for unit in header.get("space units", ["mm"])}
    if len(units) != 1 or not units <= set(_MM_PER_UNIT):
        raise _bad(path, f"space units {sorted(units)} are not read")
    factor = _MM_PER_UNIT[units.pop()]
    turn = _TO_LPS.get(space, LPS_TO_RAS[:3, :3] @ LPS_TO_RAS[:3, :3]) * factor
    return geometry_from_lps(shape, turn @ steps, turn @ origin, path)


def _bad(path: Path, why: str) -> DataError:
    return DataError("bad NRRD header", where=path, why=why, fix="export the scan again")
