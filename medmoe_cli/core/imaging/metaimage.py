"""MetaImage (.mha, .mhd + .raw/.zraw) in and out: a text header, then raw or zlib voxels, channels fastest.

Format: the MetaIO documentation of ITK. `TransformMatrix` lists the direction of axis after axis, in LPS.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.lps import geometry_from_lps, lps_columns

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # four bytes on every platform, says metaTypes.h
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {"i1": "MET_CHAR", "u1": "MET_UCHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "i4": "MET_INT"} | {
    "u4": "MET_UINT",
    "i8": "MET_LONG_LONG",
    "u8": "MET_ULONG_LONG",
    "f4": "MET_FLOAT",
    "f8": "MET_DOUBLE",
}
_MAX_HEADER_LINES = 1000
_MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parsed:
    geometry: Geometry
    dtype: np.dtype[Any]
    interleaved: int
    frames: int
    compressed: bool
    data_file: str
    end_of_header: int


def read_metaimage(path: Path) -> Image:
    """Read a .mha or .mhd completely: voxels (C, X, Y, Z).

    Raises:
        DataError, GeometryError: whatever is wrong with it.
    """
    parsed = _parse(path)
    source, start = _data_source(path, parsed)
    shape = parsed.geometry.shape
    count = math.prod(shape) * parsed.interleaved * parsed.frames
    with payload.open_file(source) as file:
        available = source.stat().st_size - start
        payload.check_declared_size(
            source, count * parsed.dtype.itemsize, available_bytes=available, compressed=parsed.compressed
        )
        file.seek(start)
        stream: payload.Readable = payload.ZlibStream(file) if parsed.compressed else file
        flat = payload.read_voxels(stream, parsed.dtype, count, source)
    payload.require_finite(flat, (parsed.interleaved, *shape, parsed.frames), path)
    frames_last = flat.reshape((parsed.interleaved, *shape, parsed.frames), order="F")
    data = np.moveaxis(frames_last, -1, 1).reshape(-1, *shape)
    return Image(data=data, geometry=parsed.geometry, header=Header(format="mha", path=path))


def metaimage_geometry(path: Path) -> Geometry:
    """The grid, from the header alone.

    Raises:
        DataError, GeometryError: the header is wrong.
    """
    return _parse(path).geometry


def write_metaimage(path: Path, data: NDArray[Any], geometry: Geometry) -> None:
    """Write (X, Y, Z) or (C, X, Y, Z) to `path` as one zlib-compressed .mha; the caller makes it atomic."""
    channels = data[None] if data.ndim == 3 else data
    dtype = channels.dtype.newbyteorder("<")
    packed = zlib.compress(np.asarray(channels, dtype).tobytes(order="F"), 1)
    steps = lps_columns(geometry)
    spacing = np.linalg.norm(steps[:, :3], axis=0)
    direction = (steps[:, :3] / spacing).T  # axis after axis
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(packed)),
        "TransformMatrix": _words(direction.ravel()),
        "Offset": _words(steps[:, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _words(spacing),
        "DimSize": " ".join(str(length) for length in geometry.shape),
        "ElementNumberOfChannels": str(len(channels)),
        "ElementType": _NAMES[dtype.str[1:]],
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in lines.items())
    path.write_bytes(header.encode("ascii") + packed)


def _words(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value) + 0.0) for value in values)


def _parse(path: Path) -> _Parsed:
    with payload.open_file(path) as file:
        fields, end = _fields(file, path)
    try:
        return _interpret(fields, end, path)
    except (ValueError, OverflowError) as error:
        raise _bad(path, str(error)) from error


def _fields(file: IO[bytes], path: Path) -> tuple[dict[str, str], int]:
    """Header keys (lower case) to their values, and where the header ends."""
    fields: dict[str, str] = {}
    for _ in range(_MAX_HEADER_LINES):
        line = file.readline(_MAX_LINE_BYTES)
        key, separator, value = line.decode("latin-1").partition("=")
        if not separator:
            break
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            return fields, file.tell()
    raise DataError(
        "not a MetaImage file", where=path, why="no 'ElementDataFile = ...' in its header", fix="export the scan again"
    )


def _interpret(fields: dict[str, str], end: int, path: Path) -> _Parsed:
    num_dims = int(fields.get("ndims", "0"))
    if num_dims not in (2, 3, 4):
        raise _bad(path, f"NDims is {fields.get('ndims')}")
    if fields.get("binarydata", "True").lower() != "true":
        raise _bad(path, "text voxels (BinaryData = False) are not read")
    if int(fields.get("headersize", "0")) not in (0, -1):
        raise _bad(path, "a HeaderSize is not read")
    element = fields.get("elementtype", "").removesuffix("_ARRAY")
    if element not in _TYPES:
        raise _bad(path, f"ElementType '{element}' is not read")
    sizes = [int(word) for word in fields.get("dimsize", "").split()]
    interleaved = int(fields.get("elementnumberofchannels", "1"))
    if len(sizes) != num_dims or min(sizes) < 1 or not 1 <= interleaved <= 4096:
        raise _bad(path, f"DimSize '{fields.get('dimsize', '')}' with {interleaved} channels")
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")).lower() == "true"
    axes = min(num_dims, 3)
    spacing = _numbers(fields, ("elementspacing", "elementsize"), num_dims, [1.0] * num_dims)[:axes]
    origin = _numbers(fields, ("offset", "position", "origin"), num_dims, [0.0] * num_dims)[:axes]
    identity = np.eye(num_dims).ravel().tolist()
    names = ("transformmatrix", "rotation", "orientation")
    rows = np.array(_numbers(fields, names, num_dims**2, identity), np.float64).reshape(num_dims, num_dims)
    matrix = rows[:axes, :axes].T
    if min(spacing) <= 0:
        raise _bad(path, f"ElementSpacing {spacing}")
    columns, place = np.eye(3), np.zeros(3)
    columns[:axes, :axes] = matrix * spacing
    place[:axes] = origin
    shape = [*sizes[:3], 1][:3]
    return _Parsed(
        geometry=geometry_from_lps((shape[0], shape[1], shape[2]), columns, place, path),
        dtype=np.dtype((">" if big else "<") + _TYPES[element]),
        interleaved=interleaved,
        frames=sizes[3] if num_dims == 4 else 1,
        compressed=fields.get("compresseddata", "False").lower() == "true",
        data_file=fields["elementdatafile"],
        end_of_header=end,
    )


def _numbers(fields: dict[str, str], names: tuple[str, ...], count: int, default: Sequence[float]) -> Sequence[float]:
    for name in names:
        if name in fields:
            values = [float(word) for word in fields[name].split()]
            if len(values) != count or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} '{fields[name]}' is not {count} numbers")
            return values
    return default


def _data_source(path: Path, parsed: _Parsed) -> tuple[Path, int]:
    """The file that holds the voxels and where they start in it; never outside the header's folder."""
    name = parsed.data_file
    if name.upper() == "LOCAL":
        return path, parsed.end_of_header
    plain = name.isprintable() and name == Path(name).name and not set(name) & set("\\%")
    if not plain or name.upper().startswith("LIST") or name in ("", ".."):
        raise _bad(path, f"ElementDataFile '{name}' is not one file in the same folder")
    return path.with_name(name), 0


def _bad(path: Path, why: str) -> DataError:
    return DataError("bad MetaImage header", where=path, why=why, fix="export the scan again")
