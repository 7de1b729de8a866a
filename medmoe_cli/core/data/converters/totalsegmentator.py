"""TotalSegmentator, CT and MR: a folder per subject with one mask per class, official parts in meta.csv.

Layout: [TOP/]meta.csv, s0000/{ct,mri}.nii.gz, s0000/segmentations/CLASS.nii.gz; also what the program itself writes:
one label map whose header names its classes (s0000/segmentations.nii.gz, or CASE_seg.nii.gz beside CASE_ct.nii.gz).
Masks overlap: the higher value of the official list keeps a voxel, as in the official converter, or with --overlap
lower the other.
Reference: wasserth/TotalSegmentator, resources/convert_dataset_to_nnunet.py and improvements_in_v2.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.files import Reading, load_files, place_label
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.label_table import label_table
from medmoe_cli.core.data.converters.overlaps import Stack
from medmoe_cli.core.data.converters.source import (
    ConvertOptions,
    Fold,
    LoadedCase,
    Skipped,
    SourceCase,
    Survey,
    renumber,
)
from medmoe_cli.core.data.converters.totalsegmentator_classes import SCHEMES, order_of
from medmoe_cli.core.data.converters.totalsegmentator_subjects import (
    Parts,
    Subject,
    find_root,
    find_subjects,
    read_parts,
)
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image, read_labels

NAME = "totalsegmentator"
ALL_EMPTY = "all masks are empty, kept: everything counts as background"
OVERLAPPING = "masks of several classes overlap"
FILES_MISSING = "some classes have no file, they count as absent"
_LICENCES = {"CT": "CC BY 4.0", "MR": "CC BY-NC-SA 2.0"}
_REFERENCES = {
    "CT": "Wasserthal et al. 2023, doi 10.1148/ryai.230024",
    "MR": "Akinci D'Antonoli et al. 2025, doi 10.1148/radiol.241613",
}
_REPAIRED = ("s0045", "s0184", "s0224", "s0248", "s0830", "s0864", "s0992")
"""CT scans that were empty or had wrong intensities in 2.0.0 (issue 193 of the project)."""
_UNANNOTATED_MR = frozenset(
    f"s{number:04d}"
    for number in (
        26, 48, 57, 69, 77, 78, 84, 86, 91, 94, 97, 98, 101, 102, 109, 111, 116, 122, 134, 136, 140, 141, 150, 152, 165,
        196, 330, 374, 376, 405, 431, 438, 449, 454, 458, 461, 480, 482, 486, 507, 510, 513, 522, 523, 524, 548, 553,
        580, 604, 605,
    )
)  # fmt: skip
"""MR subjects all of whose masks are empty in release 2 (issue 511 of the project)."""


def looks_like(source: Path) -> bool:
    """Subjects with a scan and masks, or a label map that names TotalSegmentator's classes."""
    return find_root(source) is not None


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand a release, or a folder of label maps.

    Raises:
        ConfigError: --subset names no class, or a label map without names lacks --label-scheme.
        DataError: CT and MR are mixed, masks and label maps are mixed, meta.csv is damaged.
    """
    root = find_root(source) or source
    skipped: list[Skipped] = []
    subjects = find_subjects(root, skipped)
    modality = _only_kind(root, subjects)
    notes: list[str] = []
    if subjects and subjects[0].label_map is not None:
        values = _mapped_classes(subjects, options)
    else:
        subjects = _without_unannotated(subjects, workers, reporter, skipped)
        values = _masked_classes(subjects, modality, options, notes)
    chosen = _chosen(values, options)
    parts = read_parts(root, subjects, skipped)
    if modality == "CT" and (doubtful := sorted({subject.id for subject in subjects}.intersection(_REPAIRED))):
        notes.append(f"{some(doubtful, 7)}: empty or wrong intensities in release 2.0.0, correct in 2.0.1")
    labels, value_map = renumber(chosen)
    value_map = {**dict.fromkeys(values.values(), 0), **value_map}
    rule = patient_rule(options.patient_regex)
    cases = tuple(
        SourceCase(
            id=subject.id,
            patient=patient_of(subject.id, rule),
            split="Ts" if parts.of.get(subject.id) == "test" else "Tr",
            files=_inputs(subject, chosen),
            load=_loader(subject, chosen, options.overlap or "higher"),
        )
        for subject in subjects
    )
    return Survey(
        format=NAME,
        channels=options.channels or (modality,),
        labels=labels,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=cases,
        skipped=tuple(skipped),
        modality=options.modality or modality,
        information={"reference": _REFERENCES[modality], "licence": _LICENCES[modality]},
        notes=(*notes, *parts.notes),
        folds=_folds(subjects, parts),
    )


def load_subject(
    path: Path, masks: Sequence[tuple[int, Path]], *, overlap: Literal["higher", "lower"], complete: bool
) -> LoadedCase:
    """Read a scan and lay its masks over each other.

    Raises:
        MedMoEError: a file is damaged, the scan is empty, or a mask is not binary or lies on another grid.
    """
    image = read_image(path)
    _require_content(image)
    notes = [] if complete else [FILES_MISSING]
    stack = Stack(image.geometry.shape, overlap=overlap)
    for value, file in sorted(masks):
        mask = place_label(image, read_labels(file), notes)
        found = [int(number) for number in np.unique(mask).tolist() if number]
        if found not in ([], [1]):
            why = f"its values are {some(map(str, found), 8)}, 0 and 1 are expected"
            raise DataError("a mask that is not binary", where=file, why=why, fix="restore the release's mask")
        if found:
            stack.add(value, mask)
    if not stack.label.any():
        notes.append(ALL_EMPTY)
    if stack.contested:
        notes.append(OVERLAPPING)
    return LoadedCase(images=(image,), label=stack.label, notes=(*dict.fromkeys(notes), *stack.notes()))


def _load_map(path: Path, label_map: Path) -> LoadedCase:
    loaded = load_files((path,), label_map, Reading())
    _require_content(loaded.images[0])
    return loaded


def _require_content(image: Image) -> None:
    if image.num_channels == 1 and image.data.min() == image.data.max():
        raise DataError(
            "a scan without content",
            where=image.header.path,
            why=f"every voxel is {image.data.flat[0]:g}",
            fix="download the release again (2.0.1 repairs two such CT scans), or leave the case out",
        )


def _only_kind(root: Path, subjects: Sequence[Subject]) -> Literal["CT", "MR"]:
    if not subjects:
        raise DataError("no subject with a scan and masks", where=root, fix="name the folder that holds s0000, s0001")
    if len({subject.modality for subject in subjects}) > 1:
        raise DataError("CT and MR in one folder", where=root, fix="convert them apart: each is a release of its own")
    if len({subject.label_map is None for subject in subjects}) > 1:
        raise DataError("masks per class and label maps in one folder", where=root, fix="convert them apart")
    return subjects[0].modality


def _masked_classes(
    subjects: Sequence[Subject], modality: str, options: ConvertOptions, notes: list[str]
) -> dict[str, int]:
    if options.label_scheme is not None:
        raise ConfigError("--label-scheme for masks that are named", why="each class has a file", fix="leave it out")
    order = order_of({name for subject in subjects for name in subject.masks}, modality)
    notes.append(f"{len(order.values)} classes in the order of TotalSegmentator's list '{order.scheme}'")
    if order.unlisted:
        notes.append(f"classes that its list does not have, after the others: {some(order.unlisted, 8)}")
    if order.absent:
        notes.append(f"{len(order.absent)} classes of its list have no file anywhere: {some(order.absent, 4)}")
    return order.values


def _mapped_classes(subjects: Sequence[Subject], options: ConvertOptions) -> dict[str, int]:
    """The classes of label maps: what their headers say, or --label-scheme where they say nothing."""
    scheme = options.label_scheme
    if scheme is not None and scheme not in SCHEMES:
        why = did_you_mean(scheme, SCHEMES)
        raise ConfigError(f"no label scheme '{scheme}'", why=why, fix=f"one of {', '.join(SCHEMES)}")
    named = None if scheme is None else dict(enumerate(SCHEMES[scheme], start=1))
    for subject in subjects:
        path = subject.label_map
        table = {} if path is None else label_table(path)
        if not table and scheme is None:
            raise ConfigError(
                "a label map that does not name its classes",
                where=path,
                why="v1, v2 and mr give one value to different classes",
                fix="add --label-scheme v1, v2 or mr",
            )
        if table and named is not None and table != named:
            why = f"it has {len(table)} names" if scheme is None else f"its own names are not those of '{scheme}'"
            raise ConfigError("label maps of different classes", where=path, why=why, fix="convert them apart")
        named = table or named
    return {name: value for value, name in (named or {}).items()}


def _chosen(values: Mapping[str, int], options: ConvertOptions) -> dict[str, int]:
    for name in options.subset:
        if name not in values:
            raise ConfigError(f"no class '{name}'", why=did_you_mean(name, values), fix="correct --subset")
    return {name: value for name, value in values.items() if not options.subset or name in options.subset}


def _inputs(subject: Subject, chosen: Mapping[str, int]) -> tuple[Path, ...]:
    masks = [path for name, path in sorted(subject.masks.items()) if name in chosen]
    return (subject.image, *masks, *([subject.label_map] if subject.label_map else []))


def _loader(subject: Subject, chosen: Mapping[str, int], overlap: Literal["higher", "lower"]) -> partial[LoadedCase]:
    if subject.label_map is not None:
        return partial(_load_map, subject.image, subject.label_map)
    masks = tuple((value, subject.masks[name]) for name, value in chosen.items() if name in subject.masks)
    return partial(load_subject, subject.image, masks, overlap=overlap, complete=len(masks) == len(chosen))


def _folds(subjects: Sequence[Subject], parts: Parts) -> tuple[Fold, ...]:
    """The official fold, where meta.csv has a validation part (the MR releases have none)."""
    val = tuple(subject.id for subject in subjects if parts.of.get(subject.id) == "val")
    train = tuple(subject.id for subject in subjects if parts.of.get(subject.id, "train") == "train")
    return (Fold(train=train, val=val),) if train and val else ()


def _without_unannotated(
    subjects: list[Subject], workers: int | None, reporter: Reporter, skipped: list[Skipped]
) -> list[Subject]:
    """Leave out the MR subjects that are known to be unannotated, once their masks are seen to be empty."""
    doubtful = [subject for subject in subjects if subject.modality == "MR" and subject.id in _UNANNOTATED_MR]
    if not doubtful:
        return subjects
    reporter.start("look at masks", len(doubtful))
    empty = set()
    results = each(_is_empty, doubtful, workers=worker_count(workers, len(doubtful)), name=lambda one: one.id)
    for subject, is_empty in zip(doubtful, results, strict=True):
        reporter.update(subject.id)
        if is_empty:
            empty.add(subject.id)
            why = "all its masks are empty: it was not annotated (known of release 2)"
            skipped.append(Skipped(what=subject.id, why=why))
    reporter.finish()
    return [subject for subject in subjects if subject.id not in empty]


def _is_empty(subject: Subject) -> bool:
    try:
        return not any(read_labels(path).data.any() for path in subject.masks.values())
    except MedMoEError:
        return False  # the conversion reports it


FORMAT = Format(
    name=NAME,
    description="TotalSegmentator CT and MR: a mask per class and subject, or its label maps; --subset liver,spleen",
    modality="CT, MR",
    options=(*COMMON_OPTIONS, "overlap", "subset", "label_scheme"),
    looks_like=looks_like,
    survey=survey,
    classes="CT: 104 (release 1) or 117 (release 2), MR: 50 and more; by name",
    licence="CT: CC BY 4.0; MR: CC BY-NC-SA 2.0",
    obtain="zenodo.org: CT records 6802614 (v1), 10047292 (v2.0.1); MR 11367005 (v1), 14710732 (v2)",
    particular=2,
    signs="folders with ct or mri.nii.gz beside segmentations, or a label map that names TotalSegmentator's classes",
    label_schemes=tuple(SCHEMES),
)
