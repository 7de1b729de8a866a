"""DICOM objects from a folder, a file or a zip: which of them are image slices, and of which series.

Only headers are read here. pydicom never guesses (force=False): a file that is not DICOM is not DICOM.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.formats import is_junk

PYDICOM_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on damaged or unsupported objects."""

_MAX_ZIP_BYTES = 8 << 30
_NOT_IMAGES = {"SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "REG", "FID", "AU", "ECG"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One DICOM image object: where it is, and its header without pixels."""

    folder: Path
    name: str
    header: Any

    def load(self) -> Any:
        """The whole object.

        Raises:
            DataError: it is damaged.
        """
        try:
            return pydicom.dcmread(_source(self.folder, self.name), force=False)
        except PYDICOM_ERRORS as error:
            raise damaged(self, error) from error

    def __str__(self) -> str:
        return str(self.folder / self.name) if self.folder.name != self.name else str(self.folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """The image objects of one SeriesInstanceUID."""

    uid: str
    description: str
    items: tuple[Item, ...]


def has_dicom_magic(path: Path) -> bool:
    """True when a file carries DICM after its preamble."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def is_cut_short(header: Any) -> bool:
    """A header that ends before the picture's size: of an image, or before it says of what it is."""
    said = header.file_meta.get("MediaStorageSOPClassUID", "") or header.get("SOPClassUID", "")
    is_image = UID(str(said)).keyword.endswith("ImageStorage") if said else True
    return is_image and ("Rows" not in header or "Columns" not in header)


def find_series(path: Path) -> list[Series]:
    """The image series of a folder (not of its subfolders), file or zip, largest first.

    Raises:
        DataError: there is none, or a DICOM file is damaged.
    """
    groups: dict[str, list[Item]] = {}
    skipped: dict[str, int] = {}
    for item in _items(path):
        if is_cut_short(item.header):
            fix = "copy it again; without it its series would lack a slice"
            raise DataError("damaged DICOM file", where=str(item), why="it ends before its picture", fix=fix)
        modality = str(item.header.get("Modality", "")) or "?"
        if modality in _NOT_IMAGES or "Rows" not in item.header or "Columns" not in item.header:
            skipped[modality] = skipped.get(modality, 0) + 1
            continue
        groups.setdefault(str(item.header.get("SeriesInstanceUID", "") or ""), []).append(item)
    if not groups:
        found = ", ".join(f"{count} {modality}" for modality, count in sorted(skipped.items()))
        why = f"only objects without pixels: {found}" if found else "no DICOM file in it"
        raise DataError("no DICOM images", where=path, why=why, fix="name the folder that holds the slices")
    series = [
        Series(uid=uid, description=str(items[0].header.get("SeriesDescription", "")), items=tuple(items))
        for uid, items in groups.items()
    ]
    return sorted(series, key=lambda one: (-len(one.items), one.uid))


def choose_series(path: Path, wanted: str | None) -> Series:
    """The only series, or the one with UID `wanted`.

    Raises:
        DataError: there are several and none is wanted, or the wanted one is not there; they are listed.
    """
    found = find_series(path)
    listed = "; ".join(f"{one.uid or '(no UID)'} '{one.description}' {len(one.items)} files" for one in found)
    if wanted is not None:
        for one in found:
            if one.uid == wanted:
                return one
        raise DataError("no such DICOM series", where=path, why=f"'{wanted}' is not among {listed}", fix="choose one")
    if len(found) > 1:
        fix = "put each series in a folder of its own, or choose one by its UID"
        raise DataError("several DICOM series", where=path, why=listed, fix=fix)
    return found[0]


def damaged(item: Item, error: BaseException) -> DataError:
    """The error for an object that cannot be read or decoded."""
    why = f"{type(error).__name__}: {error}"
    fix = "copy it again; if its compression is the reason, decompress it (dcmdjpeg, gdcmconv --raw)"
    return DataError("unreadable DICOM file", where=str(item), why=why, fix=fix)


def _items(path: Path) -> Iterator[Item]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file() and not is_junk(file) and has_dicom_magic(file):
                yield from _item(path, file.name)
    elif not path.exists():
        raise DataError("file not found", where=path, fix="check the path")
    elif zipfile.is_zipfile(path):
        for name in _zip_names(path):
            yield from _item(path, name)
    else:
        yield from _item(path.parent, path.name, required=True)


def _item(folder: Path, name: str, *, required: bool = False) -> Iterator[Item]:
    try:
        header = pydicom.dcmread(_source(folder, name), stop_before_pixels=True, force=False)
        directory = str(header.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10"  # DICOMDIR
        _ = [header.get(key) for key in ("Modality", "Rows", "Columns", "SeriesInstanceUID", "SeriesDescription")]
    except InvalidDicomError as error:
        if required:
            raise DataError(
                "not a DICOM file", where=folder / name, why="no DICM after its preamble", fix="check what it is"
            ) from error
        return
    except PYDICOM_ERRORS as error:
        raise damaged(Item(folder=folder, name=name, header=None), error) from error
    if not directory:
        yield Item(folder=folder, name=name, header=header)


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not is_junk(Path(info.filename))]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError("damaged zip", where=path, why=str(error), fix="copy it again") from error
    if sum(info.file_size for info in infos) > _MAX_ZIP_BYTES:
        raise DataError("zip too large", where=path, why=f"over {_MAX_ZIP_BYTES >> 30} GiB", fix="unpack it first")
    return sorted(info.filename for info in infos)


def _source(folder: Path, name: str) -> Path | io.BytesIO:
    """Where pydicom reads a member: the file, or the bytes of a zip's member (never more than it declares)."""
    if folder.is_dir():
        return folder / name
    try:
        with zipfile.ZipFile(folder) as archive:
            return io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError("damaged zip", where=folder, why=f"{name}: {error}", fix="copy it again") from error
