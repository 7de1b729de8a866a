"""Medical Segmentation Decathlon: TaskXX_Name with 4-D images (channels last) and labels that may be floats.

Layout: dataset.json, imagesTr/x.nii.gz, labelsTr/x.nii.gz, imagesTs/x.nii.gz; AMOS and others share it.
Keys as in the Decathlon's dataset.json ('training' of image/label pairs, 'test' of paths or pairs, 'modality' by
number, 'labels' by value), with 'validation' where a release has one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import (
    channels_by_number,
    classes_by_value,
    information,
    patient_of,
    patient_rule,
)
from medmoe_cli.core.data.converters.files import Reading, load_files
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.data.filenames import files_in
from medmoe_cli.core.imaging.formats import NIFTI, ending_of, stem_of

NAME = "msd"
_SPLITS: tuple[tuple[str, Literal["Tr", "Ts"]], ...] = (("training", "Tr"), ("validation", "Ts"), ("test", "Ts"))


def looks_like(source: Path) -> bool:
    """A dataset.json whose 'training' pairs name NIfTI files that are there, under those very names."""
    content = _content(source)
    training = content.get("training")
    if not isinstance(training, list) or "channel_names" in content:
        return False
    images = [image for image, _ in (_pair(source, entry) for entry in training) if image is not None]
    return any(ending_of(image) in NIFTI and image.is_file() for image in images)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand a Decathlon task.

    Raises:
        DataError: dataset.json lacks what is needed.
    """
    path = source / "dataset.json"
    content = jsonio.read(path)
    if not isinstance(content, dict):
        raise DataError("not a JSON object", where=path, fix="restore the release's dataset.json")
    labels, value_map = renumber(classes_by_value(content, path))
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    skipped: list[Skipped] = []
    used: set[Path] = set()
    for key, split in _SPLITS:
        for entry in content.get(key) or []:
            image, label = _pair(source, entry)
            missing = [file for file in (image, label) if file is not None and not file.is_file()]
            used.update(file for file in (image, label) if file is not None)
            if image is None:
                skipped.append(Skipped(what=f"{key}: {entry!r}", why="names no image", is_case=False))
            elif missing == [label] and split == "Ts":
                cases.append(_case(image, None, split, rule))
            elif missing:
                names = ", ".join(str(file.relative_to(source)) for file in missing)
                skipped.append(Skipped(what=stem_of(image), why=f"listed in {key}, but there is no {names}"))
            elif label is None and split == "Tr":
                skipped.append(Skipped(what=stem_of(image), why="listed in training without a label"))
            else:
                cases.append(_case(image, label, split, rule))
    for folder in ("imagesTr", "labelsTr", "imagesTs", "imagesVa", "labelsVa"):
        for file in files_in(source / folder):
            if ending_of(file) and file not in used:
                skipped.append(Skipped(what=f"{folder}/{file.name}", why="not listed in dataset.json"))
    channels = options.channels or channels_by_number(content)
    return Survey(
        format=NAME,
        channels=channels,
        labels=labels,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or ", ".join(channels),
        information=information(content),
    )


def _case(image: Path, label: Path | None, split: Literal["Tr", "Ts"], rule: Any) -> SourceCase:
    case = stem_of(image)
    load = partial(load_files, (image,), label, Reading())
    files = (image,) if label is None else (image, label)
    return SourceCase(id=case, patient=patient_of(case, rule), split=split, files=files, load=load)


def _pair(source: Path, entry: Any) -> tuple[Path | None, Path | None]:
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
    return (
        source / image if isinstance(image, str) else None,
        source / label if isinstance(label, str) else None,
    )


def _content(source: Path) -> dict[str, Any]:
    try:
        content = jsonio.read(source / "dataset.json")
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


FORMAT = Format(
    name=NAME,
    description="Medical Segmentation Decathlon (TaskXX_Name) and releases of its layout, such as AMOS",
    modality="CT, MR",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="of each task, from its dataset.json",
    licence="CC BY-SA 4.0 (the Decathlon); releases of its layout have their own",
    obtain="http://medicaldecathlon.com (Google Drive), or the AWS bucket msd-for-monai",
    signs="a dataset.json whose 'training' pairs name NIfTI files that are there",
)
