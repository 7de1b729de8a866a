"""Where the subjects of TotalSegmentator lie: a folder each with one mask per class, or a scan beside a label map."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.converters.label_table import label_table
from medmoe_cli.core.data.converters.source import Skipped
from medmoe_cli.core.data.converters.totalsegmentator_classes import SCHEMES
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.imaging.formats import NIFTI, ending_of, is_junk, stem_of
from medmoe_cli.core.imaging.read import read_geometry

Modality = Literal["CT", "MR"]
_SCANS: Mapping[str, Modality] = {"ct": "CT", "mri": "MR"}
_FLAT = re.compile(r"(.+?)_(ct|mri?)(?:_.*)?", re.IGNORECASE)
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One scan.

    Attributes:
        id: the folder's name, or what the names of scan and label map share.
        modality: CT or MR.
        image: the scan.
        masks: one file per class, by class name.
        label_map: all classes in one file, in place of `masks`.
    """

    id: str
    modality: Modality
    image: Path
    masks: Mapping[str, Path] = field(default_factory=dict)
    label_map: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What meta.csv says of the official parts: subject to train, val or test; and what is odd about it."""

    of: Mapping[str, str]
    notes: tuple[str, ...] = ()


def find_root(source: Path) -> Path | None:
    """The folder of the subjects: the source, or its only sub-folder that has them (releases 1 and 3 have a top)."""
    if not source.is_dir():
        return None
    if _has_subjects(source):
        return source
    inner = [path for path in sorted(source.iterdir()) if path.is_dir() and not is_junk(path) and _has_subjects(path)]
    return inner[0] if len(inner) == 1 else None


def find_subjects(root: Path, skipped: list[Skipped]) -> list[Subject]:
    """The subjects below a root, sorted by id; what has no labels goes to `skipped`.

    Raises:
        DataError: a folder holds a CT and an MR scan.
    """
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not is_junk(folder)]
    found = [subject for folder in folders for subject in _in_folder(folder, skipped)]
    return sorted([*found, *_flat(root, skipped)], key=lambda subject: subject.id)


def read_parts(root: Path, subjects: Sequence[Subject], skipped: Sequence[Skipped]) -> Parts:
    """The official parts of the subjects, from meta.csv.

    Args:
        root: of the release.
        subjects: that are converted.
        skipped: what was left out, which is here all the same.

    Raises:
        DataError: its column `split` holds something else than train, val and test.
    """
    path = root / "meta.csv"
    if not path.is_file():
        return Parts(of={}, notes=("no meta.csv: there is no official split, all cases train",))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("damaged meta.csv", where=path, why=str(error), fix="restore the release's file") from error
    columns = list(rows[0]) if rows else []
    if "image_id" not in columns or "split" not in columns:
        shown = some((str(column) for column in columns), 8) or "none"
        return Parts(of={}, notes=(f"meta.csv names no split (its columns are {shown}): all cases train",))
    of = {str(row["image_id"]).strip(): str(row["split"]).strip().lower() for row in rows}
    odd = sorted(set(of.values()) - set(_SPLITS))
    if odd:
        raise DataError(
            "unknown parts in meta.csv",
            where=path,
            why=f"split is {some(odd, 6)}; train, val and test are expected",
            fix="correct it, or remove the file: all cases train then",
        )
    ids = {subject.id for subject in subjects}
    notes = []
    if unlisted := sorted(ids - of.keys()):
        notes.append(f"{len(unlisted)} subjects are not in meta.csv, they train: {some(unlisted, 4)}")
    left_out = {one.what.rstrip("/").partition("/")[0] for one in skipped}
    if absent := sorted(of.keys() - ids - left_out):
        notes.append(f"{len(absent)} subjects of meta.csv are not here: {some(absent, 4)}")
    return Parts(of={case: part for case, part in of.items() if case in ids}, notes=tuple(notes))


def _has_subjects(root: Path) -> bool:
    folders = any(
        _labelled(folder) and any(_scan(folder, name) for name in _SCANS)
        for folder in root.iterdir()
        if folder.is_dir() and not is_junk(folder)
    )
    return folders or bool(_label_maps(root))


def _labelled(folder: Path) -> bool:
    return (folder / "segmentations").is_dir() or _scan(folder, "segmentations") is not None


def _scan(folder: Path, name: str) -> Path | None:
    return next((path for ending in NIFTI if (path := folder / f"{name}{ending}").is_file()), None)


def _in_folder(folder: Path, skipped: list[Skipped]) -> Iterator[Subject]:
    scans = {modality: path for name, modality in _SCANS.items() if (path := _scan(folder, name)) is not None}
    if len(scans) > 1:
        raise DataError("a CT and an MR scan of one subject", where=folder, fix="move one into a source of its own")
    masks = {stem_of(path): path for path in files_in(folder / "segmentations") if ending_of(path) in NIFTI}
    label_map = _scan(folder, "segmentations")
    if not scans:
        if masks or label_map:
            skipped.append(Skipped(what=folder.name, why="it has no ct.nii.gz or mri.nii.gz"))
        return
    ((modality, image),) = scans.items()
    if masks:
        yield Subject(id=folder.name, modality=modality, image=image, masks=masks)
    elif label_map is not None:
        yield Subject(id=folder.name, modality=modality, image=image, label_map=label_map)
    else:
        skipped.append(Skipped(what=folder.name, why="it has no masks: not one file in segmentations/"))


def _label_maps(root: Path) -> dict[str, Path]:
    """Label maps CASE_seg whose own table names TotalSegmentator's classes, by case."""
    known = {name for names in SCHEMES.values() for name in names}
    found = {}
    for path in files_in(root):
        if ending_of(path) in NIFTI and stem_of(path).lower().endswith("_seg"):
            table = label_table(path)
            if table and known.issuperset(table.values()):
                found[stem_of(path)[: -len("_seg")]] = path
    return found


def _flat(root: Path, skipped: list[Skipped]) -> Iterator[Subject]:
    """Scans CASE_ct or CASE_mr beside CASE_seg; of several scans, the one on the grid of the label map."""
    maps = _label_maps(root)
    if not maps:
        return
    used: set[str] = set()
    for path in files_in(root):
        match = _FLAT.fullmatch(stem_of(path))
        if ending_of(path) not in NIFTI or match is None:
            continue
        case = match[1]
        if case not in maps:
            skipped.append(Skipped(what=path.name, why=f"there is no label map {case}_seg"))
        elif case in used or read_geometry(path).differences(read_geometry(maps[case])):
            skipped.append(Skipped(what=path.name, why=f"it does not lie on the grid of {maps[case].name}"))
        else:
            used.add(case)
            modality: Modality = "CT" if match[2].lower() == "ct" else "MR"
            yield Subject(id=case, modality=modality, image=path, label_map=maps[case])
    for case in sorted(maps.keys() - used):
        skipped.append(
            Skipped(what=maps[case].name, why=f"there is no scan {case}_ct or {case}_mr on its grid", is_case=False)
        )
