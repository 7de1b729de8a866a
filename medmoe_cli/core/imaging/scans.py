"""What can be predicted in a folder: image files, DICOM folders, DICOM zips, each with its case id."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.dicom_files import has_dicom_magic
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of, is_junk, read_endings, stem_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """One input.

    Attributes:
        id: the file's stem without ending, or the DICOM folder's name.
        path: what `read_image` takes.
        format: nifti, nrrd, mha, png, jpg, tiff or dicom.
    """

    id: str
    path: Path
    format: str


def list_scans(source: Path) -> list[Scan]:
    """The scans of a folder, or the one that `source` is, sorted by id.

    A folder is: image files and zips in it, and DICOM series in it or in its direct subfolders.

    Raises:
        DataError: there is none (what is there is named), or two have one id.
    """
    if not source.exists():
        raise DataError("file not found", where=source, fix="check the path")
    if source.is_file():
        scan = _file_scan(source)
        if scan is None:
            why = f"its ending is none of {read_endings()} and it is no DICOM file"
            raise DataError("not an image", where=source, why=why, fix="convert it to .nii.gz")
        return [scan]
    entries = sorted(entry for entry in source.iterdir() if not is_junk(entry))
    scans = [scan for entry in entries if entry.is_file() and (scan := _file_scan(entry, loose_dicom=False))]
    scans += [
        Scan(id=folder.name, path=folder, format="dicom")
        for folder in (source, *(entry for entry in entries if entry.is_dir()))
        if _holds_dicom(folder)
    ]
    if not scans:
        raise _nothing(source, entries)
    repeated = sorted(name for name, count in Counter(scan.id for scan in scans).items() if count > 1)
    if repeated:
        names = [scan.path.name for scan in scans if scan.id == repeated[0]]
        why = f"{' and '.join(names)} are both case {repeated[0]}"
        raise DataError("two scans with one id", where=source, why=why, fix="rename one of them")
    return sorted(scans, key=lambda scan: scan.id)


def _file_scan(path: Path, *, loose_dicom: bool = True) -> Scan | None:
    """The scan that a file is by itself; DICOM slices of a folder belong to the folder."""
    ending = ending_of(path)
    if ending and ENDING_FORMATS[ending] != "dicom":
        return Scan(id=stem_of(path), path=path, format=ENDING_FORMATS[ending])
    if path.suffix.lower() == ".zip":
        return Scan(id=path.stem, path=path, format="dicom")
    if loose_dicom and (ending or has_dicom_magic(path)):
        return Scan(id=stem_of(path), path=path, format="dicom")
    return None


def _holds_dicom(folder: Path) -> bool:
    """True when a file in the folder itself is DICOM; the first files tell."""
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not is_junk(file) and not _other(file))
    return any(has_dicom_magic(file) for file in files)


def _other(path: Path) -> bool:
    ending = ending_of(path)
    return (bool(ending) and ENDING_FORMATS[ending] != "dicom") or path.suffix.lower() in (".zip", ".json", ".txt")


def _nothing(source: Path, entries: list[Path]) -> DataError:
    endings = Counter(entry.suffix.lower() or "(no ending)" for entry in entries if entry.is_file())
    folders = sum(entry.is_dir() for entry in entries)
    found = [f"{count} {ending}" for ending, count in endings.most_common(6)]
    if folders:
        found.append(f"{folders} folders without DICOM files")
    why = "it is empty" if not found else f"it has {', '.join(found)}; read are {read_endings()}"
    return DataError("no scan", where=source, why=why, fix="name the folder that holds the images")
