"""Plain folders: images and masks paired by case id.

NIfTI, NRRD, MHA, PNG, JPG, TIFF and DICOM series in sub-folders; one label map per case, or one mask per class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, DataError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.files import Reading, load_files, place_label
from medmoe_cli.core.data.converters.format import Format
from medmoe_cli.core.data.converters.label_values import SOFT_THRESHOLD, Classes, classes_of, survey_values
from medmoe_cli.core.data.converters.overlaps import Stack
from medmoe_cli.core.data.converters.pairing import Pair, Pairing, find_units, pair, pair_classes, split_units
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey
from medmoe_cli.core.data.converters.survey_pictures import PictureKind, survey_pictures
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.dicom_files import find_series
from medmoe_cli.core.imaging.read import format_of, read_labels

NAME = "folder"
_NO_MODALITY = "no --modality: each image is scaled by its own intensities; give --modality CT if these are CT"


def looks_like(source: Path) -> bool:
    """Any image."""
    return source.is_dir() and bool(find_units(source))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Pair the files and understand their values.

    Raises:
        DataError: files that do not pair up, all of them; nothing that pairs up; values that are no labels.
        ConfigError: options that contradict the files.
    """
    pairing = _pair(source, options)
    if not pairing.pairs:
        kinds = Counter(problem.what for problem in pairing.problems)
        first = next(iter(pairing.problems), None)
        raise DataError(
            "no image has a label",
            where=source,
            why=", ".join(f"{count} x {what}" for what, count in kinds.most_common(3))
            + (f"; the first: {first.where}, {first.why}" if first is not None else "no image files"),
            fix="name the folders with --images DIR --labels DIR, or the suffix with --label-suffix",
        )
    if pairing.problems and not options.allow_unmatched:
        raise_all(pairing.problems)
    counts = {len(case.images) for case in pairing.pairs}
    if len(counts) > 1:
        raise DataError(
            "cases with different numbers of channels", where=source, why=str(sorted(counts)), fix="add them"
        )
    images = [path for case in pairing.pairs for path in case.images]
    pictures = survey_pictures(images, workers=workers, reporter=reporter)
    if pictures.ending == ".png" and options.spacing_mm is not None:
        raise ConfigError("--spacing for pictures", why="PNG holds no voxel size", fix="leave --spacing out")
    _require_spacing(pairing, pictures, options)
    if options.class_files:
        classes = _class_files(pairing, options)
    else:
        files = [label for case in pairing.pairs for _, label in case.labels]
        classes = classes_of(survey_values(files, workers=workers, reporter=reporter), options)
    rule = patient_rule(options.patient_regex)
    modality = options.modality or _dicom_modality(images[0])
    notes = (pictures.note, *classes.notes, "" if modality or pictures.colour is not None else _NO_MODALITY)
    return Survey(
        format=NAME,
        channels=_channels(options, pictures, counts.pop(), modality),
        labels=classes.labels,
        value_map=classes.value_map,
        threshold=classes.threshold,
        file_ending=pictures.ending,
        cases=tuple(
            SourceCase(
                id=case.id,
                patient=patient_of(case.id, rule),
                split="Tr",
                files=(*case.images, *(path for _, path in case.labels)),
                load=_loader(case, options, pictures, classes),
            )
            for case in pairing.pairs
        ),
        skipped=tuple(
            Skipped(what=problem.where, why=f"{problem.what}, {problem.why}") for problem in pairing.problems
        ),
        modality=modality,
        notes=tuple(note for note in notes if note),
    )


def load_class_files(
    images: tuple[Path, ...],
    masks: tuple[tuple[str, Path], ...],
    reading: Reading,
    *,
    values: dict[str, int],
    overlap: Literal["higher", "lower"],
) -> LoadedCase:
    """Read one case whose classes have a mask file each.

    Raises:
        MedMoEError: a file is damaged, or a mask lies on another grid.
    """
    loaded = load_files(images, None, reading)
    notes: list[str] = []
    stack = Stack(loaded.images[0].geometry.shape, overlap=overlap)
    for name, path in sorted(masks, key=lambda item: values[item[0]]):
        found = read_labels(path)
        data = place_label(loaded.images[0], found, notes)
        threshold = reading.threshold
        if threshold is None:
            # 0/255 masks may have soft edges; 0/1 and other codes count from 1.
            threshold = SOFT_THRESHOLD if int(data.max()) > SOFT_THRESHOLD else 0
        stack.add(values[name], np.asarray(data > threshold))
    return LoadedCase(images=loaded.images, label=stack.label, notes=(*sorted(set(notes)), *stack.notes()))


def _loader(case: Pair, options: ConvertOptions, pictures: PictureKind, classes: Classes) -> partial[LoadedCase]:
    reading = Reading(colour=pictures.colour, threshold=classes.threshold, spacing_mm=options.spacing_mm)
    if not options.class_files:
        return partial(load_files, case.images, case.labels[0][1], reading)
    overlap = options.overlap or "higher"
    return partial(load_class_files, case.images, case.labels, reading, values=classes.labels, overlap=overlap)


def _pair(source: Path, options: ConvertOptions) -> Pairing:
    image_root = _folder(source, options.images, "--images")
    label_root = _folder(source, options.labels, "--labels")
    if (options.images is None) != (options.labels is None):
        raise ConfigError("--images and --labels go together", where=source, fix="give both, or none")
    images, labels = find_units(image_root), find_units(label_root)
    if options.images is None:
        if options.class_files:
            raise ConfigError("--class-files without folders", where=source, fix="add --images DIR --labels DIR")
        images, labels = split_units(images, options.label_suffix)
    else:
        labels = [unit for unit in labels if unit not in images or image_root == label_root]
        images = [unit for unit in images if not (image_root in label_root.parents and label_root in unit.path.parents)]
    if options.class_files:
        return pair_classes(images, labels, label_root, image_suffixes=options.image_suffixes)
    return pair(images, labels, image_suffixes=options.image_suffixes, label_suffix=options.label_suffix)


def _folder(source: Path, given: Path | None, option: str) -> Path:
    """The folder named: inside the source, or as a path of its own."""
    folder = source if given is None else source / given
    if given is not None and not folder.is_dir() and given.is_dir():
        return given.resolve()
    if not folder.is_dir():
        there = some((path.name for path in sorted(source.iterdir()) if path.is_dir()), 6) or "no folder"
        raise ConfigError(f"no folder {given}", where=source, why=f"there is {there}", fix=f"correct {option}")
    return folder


def _require_spacing(pairing: Pairing, pictures: PictureKind, options: ConvertOptions) -> None:
    """Volumes from TIFF stacks have a voxel size only in nnU-Net's sidecar or from --spacing."""
    if pictures.colour is None or pictures.ending == ".png" or options.spacing_mm is not None:
        return
    bare = [image for case in pairing.pairs for image in case.images if not image.with_suffix(".json").is_file()]
    if bare:
        raise ConfigError(
            "no voxel size",
            where=bare[0],
            why=f"{len(bare)} pictures that do not fit PNG (stacks, or more than 16 bits) become volumes",
            fix="add --spacing X Y Z in mm",
        )


def _class_files(pairing: Pairing, options: ConvertOptions) -> Classes:
    found = sorted({name for case in pairing.pairs for name, _ in case.labels})
    names = options.label_names or tuple(found)
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise ConfigError(
            "classes that --label-names does not name",
            why=some(unknown, 8),
            fix=f"add them; found are {','.join(found)}",
        )
    if options.label_map:
        raise ConfigError("--label-map with --class-files", why="classes come from the names", fix="use --label-names")
    labels = {name: value for value, name in enumerate(names, start=1)}
    return Classes(
        labels=labels,
        value_map={value: value for value in labels.values()},
        threshold=options.threshold,
        notes=(f"one mask file per class, {len(found)} classes",),
    )


def _channels(options: ConvertOptions, pictures: PictureKind, num_files: int, modality: str) -> tuple[str, ...]:
    count = 3 if pictures.colour and num_files == 1 else num_files
    if options.channels:
        if len(options.channels) != count:
            raise ConfigError(f"{len(options.channels)} channel names for {count} channels", fix="correct --channels")
        return options.channels
    if count == 3 and pictures.colour:
        return ("R", "G", "B")
    if count == 1:
        return ("grey" if pictures.colour is not None else modality or "image",)
    if len(options.image_suffixes) == count:
        return tuple(
            suffix.strip("_-. ") or f"channel_{number}" for number, suffix in enumerate(options.image_suffixes)
        )
    return tuple(f"channel_{number}" for number in range(count))


def _dicom_modality(path: Path) -> str:
    """CT or MR, as a DICOM series says; '' for other files."""
    if format_of(path) != "dicom":
        return ""
    return str(find_series(path)[0].items[0].header.get("Modality", "") or "")


FORMAT = Format(
    name=NAME,
    description="images and masks paired by name: NIfTI, NRRD, MHA, PNG, JPG, TIFF, DICOM series",
    modality="any",
    options=tuple(field.name for field in fields(ConvertOptions) if field.name not in ("subset", "label_scheme")),
    looks_like=looks_like,
    survey=survey,
    signs="images and masks paired by name, of no release that is known",
    particular=0,
)
