"""Folders of DICOM series, with DICOM segmentations or NIfTI label maps.

A case is a series that something marks. A segmentation belongs to the series that it refers to, wherever its file lies;
a NIfTI (NRRD, MHA) belongs to the series folder that it lies in or beside, by name. Who the patients are is told by
PatientID, of which only a hash is kept; all series of one study are of one patient.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pydicom

from medmoe_cli.core.base.errors import ConfigError, DataError, GeometryError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.dicom_seg import Segments, load_segments, segments_of
from medmoe_cli.core.data.converters.files import place_label
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.label_values import classes_of, survey_values
from medmoe_cli.core.data.converters.pairing import LABEL_SUFFIXES
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey
from medmoe_cli.core.data.converters.turned import onto_voxels
from medmoe_cli.core.data.filenames import files_below, some
from medmoe_cli.core.imaging.dicom_files import PYDICOM_ERRORS, has_dicom_magic, is_cut_short
from medmoe_cli.core.imaging.formats import METAIMAGE, NIFTI, NRRD, ending_of, stem_of
from medmoe_cli.core.imaging.read import read_image, read_labels

NAME = "dicom"
_LABEL_ENDINGS = {*NIFTI, *NRRD, *METAIMAGE}
_UNSAFE = re.compile(r"[^A-Za-z0-9.\-]+")
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(kw_only=True, slots=True)
class _Series:
    """One image series: where it is and what its headers say; `key` stands for it where it has no UID."""

    key: str
    uid: str
    folder: Path
    modality: str
    number: str
    patient: str
    study: str
    files: list[Path] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)
    id: str = ""


@dataclass(kw_only=True, slots=True)
class _Found:
    """Everything below a source."""

    series: list[_Series]
    segments: list[Segments]
    labels: list[Path]
    skipped: list[Skipped]


def looks_like(source: Path) -> bool:
    """DICOM images, and a segmentation or a label map in NIfTI, NRRD or MHA somewhere beside them."""
    if not source.is_dir():
        return False
    images = marks = False
    for path in files_below(source):
        ending = ending_of(path)
        if ending in _LABEL_ENDINGS:
            marks = True
        elif (not ending or ending == ".dcm" or ending in {".dicom", ".ima"}) and has_dicom_magic(path):
            header = _header(path, ("SOPClassUID", "Modality", "Rows"))
            marks |= header is not None and header.get("Modality") == "SEG"
            images |= header is not None and header.get("Modality") != "SEG" and "Rows" in header
        if images and marks:
            return True
    return False


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand a folder of DICOM series.

    Raises:
        DataError: no series has a label; a series in several folders; label files that fit several series.
        ConfigError: --subset names what is not there, or --label-names does not fit.
    """
    reporter.start("read DICOM headers", None)
    found = _gather(source, reporter)
    reporter.finish()
    _name(found.series, source)
    chosen = _subset(found, options)
    by_segments = {
        one.key: tuple(seg for seg in found.segments if one.uid in seg.series or one.instances & seg.instances)
        for one in chosen
    }
    by_file = _beside(chosen, found)
    both = [one.id for one in chosen if by_segments[one.key] and one.key in by_file]
    if both or (by_file and any(by_segments.values())):
        raise ConfigError(
            "labels of two kinds",
            where=source,
            why=f"DICOM segmentations and label files{f', both for {some(both)}' if both else ''}",
            fix="keep one kind, or convert them one by one",
        )
    labelled = [one for one in chosen if by_segments[one.key] or one.key in by_file]
    if not labelled:
        raise DataError(
            "no series has a label",
            where=source,
            why=f"{len(found.series)} series, {len(found.segments)} segmentations, {len(found.labels)} label files",
            fix="lay SERIES_FOLDER.nii.gz beside each series folder, or its DICOM segmentations below the source",
        )
    skipped = list(found.skipped)
    skipped += [Skipped(what=one.id, why="a series that nothing marks") for one in chosen if one not in labelled]
    used = {seg.path for one in labelled for seg in by_segments[one.key]}
    skipped += [
        Skipped(
            what=str(seg.path.relative_to(source)), why="a segmentation of a series that is not here", is_case=False
        )
        for seg in found.segments
        if seg.path not in used
    ]
    used_files = set(by_file.values())
    skipped += [
        Skipped(
            what=str(path.relative_to(source)), why="a label file that no series folder is named after", is_case=False
        )
        for path in found.labels
        if path not in used_files
    ]
    notes = _notes(labelled, options)
    overlap = options.overlap or "higher"
    if by_file:
        classes = classes_of(survey_values(sorted(used_files), workers=workers, reporter=reporter), options)
        labels, value_map, notes = classes.labels, classes.value_map, (*notes, *classes.notes)
    else:
        labels = _segment_classes(labelled, by_segments, options)
        value_map = {value: value for value in labels.values()}
    cases = []
    rule = patient_rule(options.patient_regex)
    for one in labelled:
        marks = (by_file[one.key],) if one.key in by_file else tuple(seg.path for seg in by_segments[one.key])
        load = (
            partial(load_with_file, one.folder, one.uid, marks[0])
            if by_file
            else partial(load_with_segments, one.folder, one.uid, marks, labels, overlap=overlap)
        )
        patient = _patient(one) if rule is None else patient_of(one.id, rule)
        files = (*sorted(one.files), *marks)
        cases.append(SourceCase(id=one.id, patient=patient, split="Tr", files=files, load=load))
    modalities = sorted({one.modality for one in labelled})
    mixed = len(modalities) > 1 and "CT" in modalities
    modality = options.modality or ("" if mixed else ", ".join(modalities))
    if mixed and not options.modality:
        notes = (*notes, f"{', '.join(modalities)} together: no Hounsfield window is planned; --subset CT keeps it")
    return Survey(
        format=NAME,
        channels=options.channels or (modality if len(modalities) == 1 else options.modality or "image",),
        labels=labels,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=modality,
        notes=tuple(notes),
    )


def load_with_segments(
    folder: Path,
    series: str,
    files: tuple[Path, ...],
    values: dict[str, int],
    *,
    overlap: Literal["higher", "lower"],
) -> LoadedCase:
    """Read a series and what its segmentations mark.

    Raises:
        MedMoEError: the series is uneven or damaged, or a segmentation is.
    """
    image = read_image(folder, series=series)
    label, notes = load_segments(image, files, values, overlap=overlap)
    return LoadedCase(images=(image,), label=label, notes=(*image.header.notes, *notes))


def load_with_file(folder: Path, series: str, path: Path) -> LoadedCase:
    """Read a series and a label map on its voxels, in whatever order they are stored.

    Raises:
        MedMoEError: a file is damaged, or the label's voxels are not the series'.
    """
    image = read_image(folder, series=series)
    found = read_labels(path)
    notes: list[str] = list(image.header.notes)
    turned = None
    if sorted(found.geometry.shape) == sorted(image.geometry.shape):  # a label map leaves nothing out
        turned = onto_voxels(found.data, found.geometry, image.geometry)
    if turned is None:
        try:
            turned = place_label(image, found, notes)
        except GeometryError as error:
            error.fix = "make the label from this series again, or leave the case out"
            raise
    elif found.geometry.differences(image.geometry):
        notes.append("label stored in another order than its series' grid: turned onto it, voxel for voxel")
    return LoadedCase(images=(image,), label=turned, notes=tuple(notes))


def _gather(source: Path, reporter: Reporter) -> _Found:
    found = _Found(series=[], segments=[], labels=[], skipped=[])
    by_uid: dict[str, _Series] = {}
    others: Counter[str] = Counter()
    problems: list[DataError] = []
    for path in files_below(source):
        if ending_of(path) in _LABEL_ENDINGS:
            found.labels.append(path)
            continue
        if not has_dicom_magic(path):
            continue
        header = _header(path)
        reporter.update(path.name)
        if header is None or is_cut_short(header):
            found.skipped.append(Skipped(what=str(path.relative_to(source)), why="a damaged DICOM file", is_case=False))
        elif str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
            continue
        elif header.get("Modality") == "SEG":
            found.segments.append(segments_of(path, header))
        elif "Rows" not in header or "Columns" not in header:
            others[str(header.get("Modality", "") or "?")] += 1
        else:
            uid = str(header.get("SeriesInstanceUID", "") or "")
            key = uid or str(path.parent)
            one = by_uid.setdefault(key, _series(key, uid, path, header))
            if one.folder != path.parent and not any(problem.where == str(one.folder) for problem in problems):
                why = f"{uid} lies in {path.parent} too"
                problems.append(
                    DataError("a DICOM series in several folders", where=one.folder, why=why, fix="bring it together")
                )
            one.files.append(path)
            one.instances |= {str(header.get("SOPInstanceUID", ""))} - {""}
    raise_all(problems)
    found.series = sorted(by_uid.values(), key=lambda one: (str(one.folder), one.number, one.uid))
    found.skipped += [
        Skipped(what=f"{count} DICOM objects of modality {kind}", why="no image", is_case=False)
        for kind, count in sorted(others.items())
    ]
    return found


def _series(key: str, uid: str, path: Path, header: Any) -> _Series:
    return _Series(
        key=key,
        uid=uid,
        folder=path.parent,
        modality=str(header.get("Modality", "") or "image"),
        number=str(header.get("SeriesNumber", "") or ""),
        patient=str(header.get("PatientID", "") or ""),
        study=str(header.get("StudyInstanceUID", "") or ""),
    )


def _header(path: Path, tags: Sequence[str] | None = None) -> Any:
    try:
        return pydicom.dcmread(
            path, stop_before_pixels=True, force=False, specific_tags=None if tags is None else list(tags)
        )
    except PYDICOM_ERRORS:
        return None


def _name(series: Sequence[_Series], source: Path) -> None:
    """Ids from the folders' names; several series of one folder are told apart by their numbers."""
    together = Counter(one.folder for one in series)
    taken: Counter[str] = Counter()
    for one in series:
        parts = one.folder.relative_to(source).parts or ("scan",)
        name = "_".join(_UNSAFE.sub("-", part).strip("-") or "x" for part in parts)
        if together[one.folder] > 1:
            name += f"_s{_UNSAFE.sub('-', one.number) or taken[name] + 1}"
        taken[name] += 1
        one.id = name if taken[name] == 1 else f"{name}_{taken[name]}"


def _subset(found: _Found, options: ConvertOptions) -> list[_Series]:
    known = sorted({one.modality for one in found.series})
    wanted = {name.upper() for name in options.subset}
    for name in sorted(wanted):
        if name not in known:
            why = f"{did_you_mean(name, known)}; there is {', '.join(known)}"
            raise ConfigError(f"no series of modality '{name}'", why=why, fix="correct --subset")
    return [one for one in found.series if not wanted or one.modality in wanted]


def _beside(series: Sequence[_Series], found: _Found) -> dict[str, Path]:
    """Series UID to its label file: one that bears the folder's name, or the only one in the folder."""
    by_folder: dict[Path, list[_Series]] = defaultdict(list)
    for one in series:
        by_folder[one.folder].append(one)
    taken: dict[str, Path] = {}
    problems: list[DataError] = []
    for folder, members in by_folder.items():
        for one in members:
            fitting = [path for path in found.labels if _bears(path, folder, one, alone=len(members) == 1)]
            inside = [path for path in found.labels if path.parent == folder]
            if not fitting and len(members) == 1 and len(inside) == 1:
                fitting = inside
            if len(fitting) > 1:
                names = ", ".join(path.name for path in fitting[:4])
                problems.append(
                    DataError("several label files of one series", where=folder, why=names, fix="keep one of them")
                )
            elif fitting:
                taken[one.key] = fitting[0]
    raise_all(problems)
    return taken


def _bears(path: Path, folder: Path, one: _Series, *, alone: bool) -> bool:
    if path.parent not in (folder, folder.parent):
        return False
    names = {one.id} | ({folder.name} if alone else set())
    return any(name in names for name in _stems(path))


def _stems(path: Path) -> Iterator[str]:
    stem = stem_of(path)
    yield stem
    for suffix in LABEL_SUFFIXES:
        if stem.lower().endswith(suffix):
            yield stem[: -len(suffix)]


def _segment_classes(
    labelled: Sequence[_Series], by_segments: dict[str, tuple[Segments, ...]], options: ConvertOptions
) -> dict[str, int]:
    """Class name to value: as --label-names orders them, else by name."""
    there = sorted({name for one in labelled for seg in by_segments[one.key] for name in seg.names.values()})
    if options.label_map:
        raise ConfigError("--label-map with DICOM segmentations", why="segments have names", fix="use --label-names")
    unknown = [name for name in there if name not in options.label_names]
    if options.label_names and unknown:
        raise ConfigError(
            "segments that --label-names does not name", why=some(unknown, 8), fix=f"add them; found: {','.join(there)}"
        )
    return {name: value for value, name in enumerate(options.label_names or there, start=1)}


def _patient(one: _Series) -> str:
    """A hash of PatientID; of the study where there is none, so that its series stay together."""
    text = f"patient {one.patient}" if one.patient.strip() else f"study {one.study or one.key}"
    return f"p{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _notes(labelled: Sequence[_Series], options: ConvertOptions) -> tuple[str, ...]:
    nameless = sum(not one.patient.strip() for one in labelled)
    notes = ["case ids are the names of folders: look at them before you share the dataset"]
    if options.patient_regex is None:
        notes.append("patients are told by a hash of PatientID")
        if nameless:
            notes.append(f"{nameless} series without PatientID: their study stands for the patient")
    return tuple(notes)


FORMAT = Format(
    name=NAME,
    description="folders of DICOM series, with DICOM segmentations or label files (NIfTI, NRRD, MHA) beside",
    modality="CT, MR, PT",
    options=(*COMMON_OPTIONS, "label_names", "label_map", "overlap", "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="the segments' labels, or --label-names",
    licence="the data's own",
    signs="DICOM images, and segmentations or label files beside them",
)
