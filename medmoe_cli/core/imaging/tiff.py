"""TIFF in and out: one page is a 2D image, several are the slices of a volume.

TIFF has no voxel size. A JSON file of the same stem, {"spacing": [...]}, gives it in array order (z, y, x or y, x),
as nnU-Net does. tifffile decodes; Pillow does where a compression needs it.
"""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.formats import stem_of
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image

# What tifffile raises on damaged files, besides its own error.
_ERRORS = (
    tifffile.TiffFileError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    RuntimeError,
    AssertionError,
    struct.error,
    *payload.READ_ERRORS,
)
_SLICE_AXES = "ZTIQ"


def read_tiff(path: Path) -> Image:
    """Read a TIFF: data (C, columns, rows, pages).

    Raises:
        DataError: it is damaged, or has axes that are no image's.
    """
    array, axes = _load(path)
    return Image(
        data=_arrange(array, axes, path),
        geometry=_geometry(path, array.shape, axes),
        header=Header(format="tiff", path=path),
    )


def tiff_geometry(path: Path) -> Geometry:
    """The grid, from tags alone.

    Raises:
        DataError: it is damaged, or has axes that are no image's.
    """
    shape, axes = _inspect(path)
    return _geometry(path, shape, axes)


def sidecar_of(path: Path) -> Path:
    """Where the voxel size of a TIFF is written."""
    return path.with_name(stem_of(path) + ".json")


def write_tiff(path: Path, data: NDArray[Any]) -> None:
    """Write (1 or 3, columns, rows, pages) losslessly; the caller makes it atomic and writes the sidecar."""
    pages = np.ascontiguousarray(data.transpose(3, 2, 1, 0))
    photometric = "rgb" if pages.shape[-1] == 3 else "minisblack"
    array = pages if photometric == "rgb" else pages[..., 0]
    if len(array) == 1:
        array = array[0]
    tifffile.imwrite(path, array, photometric=photometric, compression="zlib", metadata=None, software="")


def _inspect(path: Path) -> tuple[tuple[int, ...], str]:
    with payload.open_file(path) as file:
        _walk_pages(file, path)
    try:
        with tifffile.TiffFile(path) as tiff:
            return _series(tiff, path)
    except _ERRORS as error:
        raise _bad(path, error) from error


def _walk_pages(file: IO[bytes], path: Path) -> None:
    """Follow the chain of pages to its end: the decoders stop without a word where a cut file breaks it.

    TIFF 6.0, section 2, and BigTIFF: counts and offsets are 2 and 4 bytes, or 8 and 8.
    """
    start = payload.read_block(file, 4, path)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = 0 if order is None or len(start) < 4 else struct.unpack(f"{order}H", start[2:])[0]
    if version not in (42, 43):
        raise DataError("not a TIFF file", where=path, why=f"it starts with {start!r}", fix="check what it is")
    count_code, offset_code, entry_bytes = ("H", "I", 12) if version == 42 else ("Q", "Q", 20)
    if version == 43:
        file.seek(8)
    seen: set[int] = set()
    try:
        while offset := _number(file, f"{order}{offset_code}"):
            if offset in seen:
                raise _bad(path, "its pages are chained in a circle")
            seen.add(offset)
            file.seek(offset)
            file.seek(offset + struct.calcsize(f"={count_code}") + _number(file, f"{order}{count_code}") * entry_bytes)
    except (struct.error, OSError, OverflowError, ValueError) as error:
        raise DataError(
            "truncated file",
            where=path,
            why=f"it ends after {max(len(seen) - 1, 0)} pages",
            fix="copy or export it again",
        ) from error


def _number(file: IO[bytes], code: str) -> int:
    return int(struct.unpack(code, file.read(struct.calcsize(code)))[0])


def _series(tiff: tifffile.TiffFile, path: Path) -> tuple[tuple[int, ...], str]:
    if len(tiff.series) != 1:
        raise _bad(path, f"{len(tiff.series)} images of different sizes")
    series = tiff.series[0]
    shape, axes = tuple(int(n) for n in series.shape), str(series.axes)
    rest = axes.replace("Y", "", 1).replace("X", "", 1).replace("S", "", 1).replace("C", "", 1)
    if "Y" not in axes or "X" not in axes or len(rest) > 1 or any(axis not in _SLICE_AXES for axis in rest):
        raise _bad(path, f"axes {axes} of lengths {shape}")
    if min(shape) < 1:
        raise _bad(path, f"an axis of length 0: {shape}")
    size = math.prod(shape) * np.dtype(series.dtype).itemsize
    # LZW packs up to three times denser than deflate.
    payload.check_declared_size(path, size, available_bytes=3 * path.stat().st_size, compressed=True)
    return shape, axes


def _load(path: Path) -> tuple[NDArray[Any], str]:
    shape, axes = _inspect(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            compressions = {int(page.compression) for page in series.pages if page is not None}
            if compressions <= {1, 8, 32773, 32946}:  # none, deflate, packbits: decoded without extra packages
                array = np.asarray(series.asarray())
            else:
                array = _with_pillow(path, len(series.pages)).reshape(series.shape)
    except _ERRORS as error:
        raise _bad(path, error) from error
    if array.shape != shape:
        raise _bad(path, f"pixels {array.shape} where its tags say {shape}")
    payload.require_finite(array.ravel(), (array.size,), path)
    return array.astype(array.dtype.newbyteorder("="), copy=False), axes


def _with_pillow(path: Path, num_pages: int) -> NDArray[Any]:
    pages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters raises
        with PillowImage.open(path) as picture:
            for page in range(num_pages):
                picture.seek(page)
                pages.append(np.asarray(picture.convert("RGB") if picture.mode == "P" else picture))
    return np.stack(pages)


def _arrange(array: NDArray[Any], axes: str, path: Path) -> NDArray[Any]:
    """To (C, columns, rows, pages)."""
    channel = "S" if "S" in axes else "C" if "C" in axes else ""
    pages = next((axis for axis in axes if axis in _SLICE_AXES), "")
    order = [axes.index(axis) for axis in (channel, "X", "Y", pages) if axis]
    data = array.transpose(order)
    data = data if channel else data[None]
    data = data if pages else data[..., None]
    if "S" in axes and len(data) in (2, 4):
        data = data[:-1]  # transparency
    if data.dtype.kind == "b":
        data = data.astype(np.uint8) * 255
    if data.dtype.kind not in "uif":
        raise _bad(path, f"values of type {data.dtype}")
    return data


def _geometry(path: Path, shape: tuple[int, ...], axes: str) -> Geometry:
    length = dict(zip(axes, shape, strict=True))
    pages = next((length[axis] for axis in axes if axis in _SLICE_AXES), 1)
    return Geometry.plain((length["X"], length["Y"], pages), _spacing(sidecar_of(path)))


def _spacing(sidecar: Path) -> tuple[float, float, float]:
    """Voxel size x, y, z in mm from the sidecar; 1 without one."""
    if not sidecar.is_file():
        return 1.0, 1.0, 1.0
    content = jsonio.read(sidecar)
    values = content.get("spacing") if isinstance(content, dict) else None
    if values is None:
        return 1.0, 1.0, 1.0
    numbers = (
        [v for v in values if isinstance(v, int | float) and math.isfinite(v) and v > 0]
        if (isinstance(values, list))
        else []
    )
    if len(numbers) not in (2, 3) or len(numbers) != len(values):
        why = f"'spacing' is {values}, not two or three positive numbers"
        raise DataError("bad voxel size", where=sidecar, why=why, fix="give mm per voxel as [z, y, x] or [y, x]")
    z, y, x = [1.0, *numbers][-3:]
    return float(x), float(y), float(z)


def _bad(path: Path, error: BaseException | str) -> DataError:
    why = str(error) or type(error).__name__
    return DataError("cannot read this TIFF", where=path, why=why, fix="save it again, uncompressed or with deflate")
