"""Exactly the declared voxels from a stream: not one byte less, none left over.

A header can declare anything. So the declared size is compared with what the file can hold before memory is asked
for, the stream is read to its end (which makes gzip compare its checksum), and a difference is an error.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, ResourceError

MAX_VOXEL_BYTES = 16 << 30
"""The largest image that is read, uncompressed."""

_MAX_DEFLATE_RATIO = 1032
_BLOCK_BYTES = 16 << 20
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What a damaged or unreadable (compressed) stream raises."""


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading.

    Raises:
        DataError: it is absent, empty, a folder or not readable.
    """
    try:
        if path.is_dir():
            raise DataError("a folder where a file was expected", where=path, fix="name the file inside it")
        if path.stat().st_size == 0:
            raise DataError("empty file", where=path, why="0 bytes", fix="copy or export it again")
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError("file not found", where=path, fix="check the path") from error
    except OSError as error:
        raise DataError("cannot read", where=path, why=error.strerror or str(error), fix="check the file") from error


def check_declared_size(path: Path, declared_bytes: int, *, available_bytes: int, compressed: bool) -> None:
    """Refuse a declared size that the file cannot hold, or that is over the limit, before allocating.

    Args:
        path: the file, for the message.
        declared_bytes: voxels times bytes per voxel, as the header says.
        available_bytes: bytes of the file that are voxels (compressed: bytes of the compressed stream).
        compressed: deflate; it shrinks data at most 1032 times.

    Raises:
        DataError: too little, too much, or over the limit.
    """
    again = "copy or export the file again"
    if compressed:
        if declared_bytes > available_bytes * _MAX_DEFLATE_RATIO + _MAX_DEFLATE_RATIO:
            why = f"the header declares {declared_bytes} bytes, {available_bytes} compressed bytes cannot hold them"
            raise DataError("truncated or false header", where=path, why=why, fix=again)
    elif declared_bytes > available_bytes:
        why = f"the header declares {declared_bytes} bytes of voxels, the file has {max(available_bytes, 0)}"
        raise DataError("truncated file", where=path, why=why, fix=again)
    elif declared_bytes < available_bytes:
        raise _left_over(path, f"{available_bytes - declared_bytes} bytes")
    if declared_bytes > MAX_VOXEL_BYTES:
        why = f"{declared_bytes / 2**30:.0f} GiB of voxels, the limit is {MAX_VOXEL_BYTES >> 30} GiB"
        raise DataError("image too large", where=path, why=why, fix="crop or downsample it")


def read_voxels(stream: Readable, dtype: np.dtype[Any], count: int, path: Path) -> NDArray[Any]:
    """Read `count` values and require the end of the stream after them.

    Returns:
        A flat, writable array in native byte order.

    Raises:
        DataError: the stream ends early, goes on, or is damaged.
        ResourceError: the memory is not there.
    """
    try:
        flat = np.empty(count, dtype)
    except MemoryError as error:
        why = f"{count * dtype.itemsize / 2**30:.1f} GiB needed"
        raise ResourceError("not enough memory", where=path, why=why, fix="use a machine with more memory") from error
    view = memoryview(flat.view(np.uint8).data)
    filled = 0
    while filled < len(view):
        block = read_block(stream, min(_BLOCK_BYTES, len(view) - filled), path)
        if not block:
            why = f"{filled} of {len(view)} bytes of voxels"
            raise DataError("truncated file", where=path, why=why, fix="copy or export the file again")
        view[filled : filled + len(block)] = block
        filled += len(block)
    if read_block(stream, 1, path):
        raise _left_over(path, "bytes")
    return flat if dtype.isnative else flat.byteswap(inplace=True).view(dtype.newbyteorder("="))


class ZlibStream:
    """A zlib stream as a readable file; its checksum is compared at the end.

    Args:
        file: the compressed bytes, to its end.
        wbits: zlib's window bits; the default takes both zlib and gzip headers.
    """

    def __init__(self, file: IO[bytes], *, wbits: int = zlib.MAX_WBITS | 32) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; b'' at the end.

        Raises:
            EOFError: the compressed data end early.
            zlib.error: they are damaged, or something follows them.
        """
        while True:
            if self._inflate.eof:
                if self._inflate.unused_data or self._file.read(1):
                    raise zlib.error("data follow the compressed stream")
                return b""
            block = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            if not block:
                raise EOFError
            out = self._inflate.decompress(block, size)
            if out:
                return out


class Readable(Protocol):
    """What voxels are read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b'' at the end."""


def read_block(stream: Readable, size: int, path: Path) -> bytes:
    """Read up to `size` bytes; what a damaged stream raises becomes a DataError."""
    try:
        return stream.read(size)
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> DataError:
    """The error for a stream that cannot be decompressed or read."""
    if isinstance(error, EOFError):
        what, why = "truncated file", "the compressed data end early"
    elif isinstance(error, gzip.BadGzipFile | zlib.error):
        what, why = "damaged file", str(error)
    else:
        what, why = "cannot read", getattr(error, "strerror", None) or str(error)
    return DataError(what, where=path, why=why, fix="copy or export the file again")


def require_finite(flat: NDArray[Any], shape: tuple[int, ...], path: Path) -> None:
    """Refuse NaN and Inf, saying how many and where the first is.

    Args:
        flat: values in Fortran order of `shape`.
        shape: axes of a voxel, for the position in the message.
        path: for the message.

    Raises:
        DataError: a value is not finite.
    """
    if flat.dtype.kind not in "fc":
        return
    step = 1 << 22
    if all(np.isfinite(flat[start : start + step]).all() for start in range(0, flat.size, step)):
        return
    bad = ~np.isfinite(flat)
    first = tuple(int(index) for index in np.unravel_index(int(np.argmax(bad)), shape, order="F"))
    why = f"{int(np.isnan(flat).sum())} NaN and {int(np.isinf(flat).sum())} infinite values, the first at voxel {first}"
    raise DataError("voxels that are not numbers", where=path, why=why, fix="replace them or drop the case")


def _left_over(path: Path, amount: str) -> DataError:
    why = f"{amount} follow the voxels that the header declares"
    return DataError("trailing data", where=path, why=why, fix="copy or export the file again")
