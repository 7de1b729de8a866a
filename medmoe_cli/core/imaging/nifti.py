"""NIfTI files in: every byte through the gate, parsed by nibabel's headers.

nibabel's own loader stops before the gzip checksum and takes contradictory headers; ITK's reads truncated files as
zeros and NaN as 0. So the voxels are read here, from the stream that `payload` drains to its end.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.gate import HEADER_SIZES, GatedHeader, check_header, header_size
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image

_GZIP_MAGIC = b"\x1f\x8b"


def read_nifti(path: Path) -> Image:
    """Read a .nii or .nii.gz completely, with its header's scaling applied.

    Returns:
        Voxels (C, X, Y, Z): a fourth axis or colour becomes C. Unscaled voxels keep their type; scaled ones are
        float32 (float64 for 32-bit integers and float64).

    Raises:
        DataError: whatever is wrong with the file.
        GeometryError: its affine is no scan's.
    """
    with _open(path) as stream:
        gated = _gate(stream, path)
        _check_size(gated, path)
        _skip(stream, gated.offset - gated.native.sizeof_hdr, path)
        flat = payload.read_voxels(stream, gated.dtype, gated.count, path)
    data = _arrange(flat, gated, path)
    header = Header(format="nifti", path=path, native=gated.native, notes=gated.notes)
    return Image(data=data, geometry=gated.geometry, header=header)


def nifti_geometry(path: Path) -> Geometry:
    """The grid, from the header alone (gated, but voxels are not read).

    Raises:
        DataError, GeometryError: as `read_nifti`, where the header shows it.
    """
    with _open(path) as stream:
        gated = _gate(stream, path)
    _check_size(gated, path)
    return gated.geometry


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed stream; the name's ending and the content must agree on gzip."""
    with payload.open_file(path) as file:
        zipped = payload.read_block(file, 2, path) == _GZIP_MAGIC
        file.seek(0)
        if zipped != path.name.lower().endswith(".gz"):
            what = "is gzip data under a name without .gz" if zipped else "is not gzip data"
            fix = f"rename it to {path.name}.gz" if zipped else "check what the file is; an uncompressed NIfTI is .nii"
            raise DataError("not what its name says", where=path, why=f"it {what}", fix=fix)
        if not zipped:
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield cast(IO[bytes], stream)


def _gate(stream: IO[bytes], path: Path) -> GatedHeader:
    block = payload.read_block(stream, HEADER_SIZES[0], path)
    size, _ = header_size(block, path)
    if size > len(block):
        block += payload.read_block(stream, size - len(block), path)
    return check_header(block, path)


def _check_size(gated: GatedHeader, path: Path) -> None:
    zipped = path.name.lower().endswith(".gz")
    size = path.stat().st_size
    available = size if zipped else size - gated.offset
    payload.check_declared_size(path, gated.data_bytes, available_bytes=available, compressed=zipped)


def _skip(stream: IO[bytes], count: int, path: Path) -> None:
    while count > 0:
        block = payload.read_block(stream, min(count, 1 << 20), path)
        if not block:
            raise DataError("truncated file", where=path, why="it ends before the voxels", fix="copy it again")
        count -= len(block)


def _arrange(flat: NDArray[Any], gated: GatedHeader, path: Path) -> NDArray[Any]:
    """Values in file order to (C, X, Y, Z), checked and scaled."""
    shape = gated.geometry.shape
    if flat.dtype.names:
        colours = [flat[name].reshape(shape, order="F") for name in flat.dtype.names[:3]]
        return np.stack(colours)
    payload.require_finite(flat, (*shape, gated.num_channels), path)
    if (gated.slope, gated.inter) != (1.0, 0.0):
        flat = _scale(flat, gated.slope, gated.inter)
        payload.require_finite(flat, (*shape, gated.num_channels), path)
    return np.moveaxis(flat.reshape((*shape, gated.num_channels), order="F"), -1, 0)


def _scale(flat: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    wide = flat.dtype.itemsize > 4 or (flat.dtype.kind in "iu" and flat.dtype.itemsize == 4)
    out = np.empty(flat.shape, np.float64 if wide else np.float32)
    step = 1 << 22
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, step):
            out[start : start + step] = flat[start : start + step].astype(np.float64) * slope + inter
    return out
