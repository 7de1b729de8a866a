"""Preprocessed cases on disk: one blosc2 file per case with a JSON record beside it.

A file is one uint16 array (samples, channels + 1, ...): the image's float16 bit patterns, then the label. Its chunks
are samples, so reading one slice decompresses one slice; those of a volume are small cubes, so that a window is read
without the rest. The record, written last, is the commit mark: it names the inputs the case was made from, the file's
sha256, and the CRC of each sample (of each chunk of a volume), which is checked whenever it is read.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.data.objects import LabelledObject, find_labelled
from medmoe_cli.core.data.stored import read_stored

FORMAT_VERSION = 1
_VOLUME_AXES = 5

# Voxels per axis of a volume's chunks. A window of 128 amid larger ones of 64 reads 70 % more, in four times the time.
_VOLUME_CHUNK = 32
_COMPRESSION = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1}
_SINGLE_THREAD = {"nthreads": 1}
# Opening a file takes longer than reading a small slice; what stays open is its index, a few kilobytes.
_KEPT_OPEN = 1024


class CaseRecord(Section):
    """What is known of a preprocessed case without opening it.

    Attributes:
        case: its id.
        key: hash of the plan's preprocessing section and of the case's input bytes.
        sha256, num_bytes: of the file.
        shape: of the image (samples, channels, H, W) or (1, channels, D, H, W).
        valid_shape: the part of H, W (D, H, W) that is not padding; padding is at the end of each axis.
        spacing_mm: of the stored pixels, in the order of the image's spatial axes.
        crc32: of each sample's bytes.
        voxels_per_label: of each sample, on the stored grid, background excluded.
        chunk_crc32: of each chunk's bytes of a volume, in the order of the array (layer, z, y, x).
        objects: where each label lies in a volume.
    """

    format_version: int = FORMAT_VERSION
    case: str
    key: str
    sha256: str
    num_bytes: int
    shape: tuple[int, ...]
    valid_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    crc32: tuple[int, ...]
    voxels_per_label: tuple[dict[int, int], ...]
    chunk_crc32: tuple[int, ...] = ()
    objects: dict[int, LabelledObject] = Field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """Slices, or 1 for a volume."""
        return self.shape[0]


class Stored(NamedTuple):
    """One stored sample: image (C, ...) float32, label (...) uint16, valid (...)."""

    image: NDArray[np.float32]
    label: NDArray[np.uint16]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A folder of preprocessed cases."""

    folder: Path

    def file(self, case: str) -> Path:
        """A case's array."""
        return self.folder / f"{case}.b2nd"

    def record_file(self, case: str) -> Path:
        """A case's record."""
        return self.folder / f"{case}.case.json"

    def record(self, case: str) -> CaseRecord | None:
        """A case's record; None when there is none, or none of this version."""
        found = read_stored(self.record_file(case), CaseRecord)
        if found is None or found.format_version != FORMAT_VERSION:
            return None
        return None if len(found.shape) == _VOLUME_AXES and not found.chunk_crc32 else found

    def claimed(self, case: str, key: str) -> CaseRecord | None:
        """The record of a case that was made from these inputs and whose file has the right size; else None."""
        found, path = self.record(case), self.file(case)
        if found is None or found.key != key or not path.is_file():
            return None
        return found if path.stat().st_size == found.num_bytes else None

    def finished(self, case: str, key: str) -> CaseRecord | None:
        """As `claimed`, and the file is undamaged, byte for byte."""
        found = self.claimed(case, key)
        return found if found is not None and file_sha256(self.file(case)) == found.sha256 else None

    def write(self, case: Writing) -> CaseRecord:
        """Write a case, its record last.

        Raises:
            ResourceError: the disk is full or not writable; what was there before is untouched.
        """
        data = bytes(case.array.to_cframe())
        record = CaseRecord(
            case=case.case,
            key=case.key,
            sha256=hashlib.sha256(data).hexdigest(),
            num_bytes=len(data),
            shape=case.shape,
            valid_shape=case.valid_shape,
            spacing_mm=case.spacing_mm,
            crc32=tuple(case.crc32),
            voxels_per_label=tuple(case.voxels_per_label),
            chunk_crc32=tuple(case.chunk_crc32),
            objects=case.objects,
        )
        self.record_file(case.case).unlink(missing_ok=True)
        atomic.write_bytes(self.file(case.case), data)
        jsonio.write(self.record_file(case.case), record)
        return record

    def read(self, record: CaseRecord, index: int, *, shown: Sequence[int] = ()) -> Stored:
        """Read one sample.

        Args:
            record: the case's.
            index: the sample.
            shown: samples, this one among them, whose images become its channels in this order; empty: its own alone.

        Raises:
            DataError: the file is absent or damaged.
        """
        path, wanted = self.file(record.case), tuple(shown) or (index,)
        first, end = min(wanted), max(wanted) + 1
        try:
            bits = np.asarray(_opened(str(path), record.sha256)[first:end])  # one read: neighbours lie together
        except (RuntimeError, FileNotFoundError, ValueError, IndexError) as error:
            raise _damaged(path, "it cannot be read") from error
        if bits.shape != (end - first, record.shape[1] + 1, *record.shape[2:]):
            raise _damaged(path, f"samples {first} to {end - 1} are not there")
        for place in sorted(set(wanted)):
            if zlib.crc32(bits[place - first].data) != record.crc32[place]:
                raise _damaged(path, f"sample {place} is not what was written")
        valid = np.zeros(record.shape[2:], bool)
        valid[tuple(slice(size) for size in record.valid_shape)] = True
        images = bits[:, :-1].view(np.float16).astype(np.float32)
        chosen = images[0] if len(wanted) == 1 else np.concatenate([images[place - first] for place in wanted])
        return Stored(image=chosen, label=bits[index - first, -1], valid=valid)

    def read_window(self, record: CaseRecord, start: Sequence[int], size: Sequence[int]) -> Stored:
        """Read a window of a volume; only the chunks it touches are read, and each is checked.

        Args:
            record: the case's.
            start: first voxel z, y, x; negative to begin before the volume.
            size: voxels z, y, x; what lies outside the volume is 0 and not valid.

        Raises:
            DataError: the file is absent or damaged.
        """
        path = self.file(record.case)
        _, num_channels, *grid = record.shape
        inside = [slice(max(s, 0), min(s + n, g)) for s, n, g in zip(start, size, grid, strict=True)]
        place = tuple(slice(part.start - s, part.stop - s) for part, s in zip(inside, start, strict=True))
        image = np.zeros((num_channels, *size), np.float32)
        label, valid = np.zeros(tuple(size), np.uint16), np.zeros(tuple(size), bool)
        if all(part.start < part.stop for part in inside):
            bits = self._chunks(path, record, inside)
            image[(slice(None), *place)] = bits[:-1].view(np.float16)
            label[place], valid[place] = bits[-1], True
        return Stored(image=image, label=label, valid=valid)

    def _chunks(self, path: Path, record: CaseRecord, inside: Sequence[slice]) -> NDArray[np.uint16]:
        """The window (layers, z, y, x) of a volume, from whole chunks whose sums are compared."""
        num_layers, grid = record.shape[1] + 1, record.shape[2:]
        chunk = volume_chunk(grid)
        first = [part.start // side for part, side in zip(inside, chunk, strict=True)]
        end = [-(-part.stop // side) for part, side in zip(inside, chunk, strict=True)]
        whole = tuple(slice(a * side, min(b * side, g)) for a, b, side, g in zip(first, end, chunk, grid, strict=True))
        try:
            bits = np.asarray(_opened(str(path), record.sha256)[(slice(0, 1), slice(0, num_layers), *whole)])[0]
        except (RuntimeError, FileNotFoundError, ValueError, IndexError) as error:
            raise _damaged(path, "it cannot be read") from error
        if bits.shape != (num_layers, *(part.stop - part.start for part in whole)):
            raise _damaged(path, "it is smaller than it was")
        table = np.reshape(record.chunk_crc32, (num_layers, *_num_chunks(grid)))
        wanted = table[(slice(None), *(slice(a, b) for a, b in zip(first, end, strict=True)))]
        if _chunk_sums(bits, chunk) != wanted.ravel().tolist():
            raise _damaged(path, "a part of the volume is not what was written")
        part = tuple(slice(i.start - w.start, i.stop - w.start) for i, w in zip(inside, whole, strict=True))
        return np.asarray(bits[(slice(None), *part)])


def volume_chunk(grid: Sequence[int]) -> tuple[int, ...]:
    """Voxels of a volume's chunks along each axis."""
    return tuple(min(size, _VOLUME_CHUNK) for size in grid)


def _num_chunks(grid: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-size // side) for size, side in zip(grid, volume_chunk(grid), strict=True))


def _chunk_sums(bits: NDArray[np.uint16], chunk: Sequence[int]) -> list[int]:
    """CRC of each chunk of (layers, z, y, x), which begins at a chunk's corner."""
    cuts = [range(0, size, side) for size, side in zip(bits.shape[1:], chunk, strict=True)]
    return [
        zlib.crc32(np.ascontiguousarray(layer[tuple(slice(s, s + n) for s, n in zip(corner, chunk, strict=True))]).data)
        for layer in bits
        for corner in product(*cuts)
    ]


@lru_cache(maxsize=_KEPT_OPEN)
def _opened(path: str, sha256: str) -> Any:
    """A case's array, opened once; the sum of its bytes tells a case that was made again from the one before."""
    return blosc2.open(path, mode="r", dparams=_SINGLE_THREAD)


class Writing:
    """A case being made, sample by sample, compressed in memory; `Store.write` puts it on disk.

    Args:
        case, key: as in the record.
        shape: of the image (samples, channels, H, W) or (1, channels, D, H, W).
        valid_shape, spacing_mm: as in the record.
    """

    def __init__(
        self,
        *,
        case: str,
        key: str,
        shape: tuple[int, ...],
        valid_shape: tuple[int, ...],
        spacing_mm: tuple[float, ...],
    ) -> None:
        self.case, self.key, self.shape = case, key, shape
        self.valid_shape, self.spacing_mm = valid_shape, spacing_mm
        self.crc32: list[int] = []
        self.voxels_per_label: list[Mapping[int, int]] = []
        self.chunk_crc32: list[int] = []
        self.objects: dict[int, LabelledObject] = {}
        num_samples, num_channels, *grid = shape
        chunk = tuple(grid) if len(grid) == 2 else volume_chunk(grid)
        layers = num_channels + 1
        self.array: Any = blosc2.empty(
            (num_samples, layers, *grid),
            dtype=np.uint16,
            chunks=(1, layers if len(grid) == 2 else 1, *chunk),
            blocks=(1, 1, *chunk),
            cparams=_COMPRESSION,
            dparams=_SINGLE_THREAD,
        )

    def add(self, image: NDArray[np.float32], label: NDArray[Any]) -> None:
        """Append the next sample: image (C, ...) and label (...)."""
        bits = np.empty((self.shape[1] + 1, *self.shape[2:]), np.uint16)
        bits[:-1] = image.astype(np.float16).view(np.uint16)
        bits[-1] = label
        self.array[len(self.crc32)] = bits
        self.crc32.append(zlib.crc32(bits.data))
        counts = np.bincount(bits[-1].ravel())
        self.voxels_per_label.append({int(value): int(counts[value]) for value in np.flatnonzero(counts) if value})
        if len(self.shape) == _VOLUME_AXES:
            self.chunk_crc32 = _chunk_sums(bits, volume_chunk(self.shape[2:]))
            self.objects = find_labelled(bits[-1])


def _damaged(path: Path, why: str) -> DataError:
    _opened.cache_clear()  # so that the case made again, byte for byte as it was meant, is opened anew
    return DataError(
        "preprocessed case is damaged",
        where=path,
        why=why,
        fix="run medmoe preprocess again: it finds and redoes damaged cases",
    )
