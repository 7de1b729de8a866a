"""nnU-Net raw folders, version 1 (TaskXXX) and 2 (DatasetXXX), told apart by dataset.json.

v1: 'modality' and 'labels' keyed by number, 'training' lists cases without their channel number. v2: 'channel_names',
'labels' keyed by name, 'file_ending'. Files are named alike in both: imagesTr/case_0000.ext, labelsTr/case.ext.
Reference: nnU-Net documentation/dataset_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from medmoe_cli.core.data.converters.survey_pictures import survey_pictures
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.dataset_file import DatasetFile, read_dataset_file
from medmoe_cli.core.data.filenames import files_in
from medmoe_cli.core.data.finding import Finding, raise_errors
from medmoe_cli.core.data.listing import Listing, list_cases
from medmoe_cli.core.imaging.formats import ending_of, stem_of

NAME = "nnunet"


def looks_like(source: Path) -> bool:
    """A dataset.json, and images with channel numbers or a v2 key."""
    path = source / "dataset.json"
    if not path.is_file():
        return False
    try:
        content = jsonio.read(path)
    except DataError:
        return False
    if not isinstance(content, dict) or "channel_names" in content:
        return isinstance(content, dict)
    listed = [f"{name}_0000" for name in _listed_cases(content)]
    there = {stem_of(path) for folder in ("imagesTr", "imagesTs") for path in files_in(source / folder)}
    return any(stem in there for stem in listed)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand an nnU-Net raw folder.

    Raises:
        DataError: dataset.json has problems, all of them together.
    """
    path = source / "dataset.json"
    content = jsonio.read(path)
    if not isinstance(content, dict):
        raise DataError("not a JSON object", where=path, fix="restore the dataset's dataset.json")
    if "channel_names" in content:
        file, findings = read_dataset_file(source)
        raise_errors(findings, source)
        assert file is not None, "a dataset.json that cannot be used comes with an error"
        version, listed_only = "v2", []
    else:
        file = _version_1(source, content, path)
        version, listed_only = "v1", _listed_cases(content)
    listing = list_cases(source, file)
    labels, value_map = renumber(file.labels)
    pictures = survey_pictures(
        [image for case in (*listing.training, *listing.test) for image in case.images],
        workers=workers,
        reporter=reporter,
    )
    rule = patient_rule(options.patient_regex)
    cases = [_case(case, "Tr", rule) for case in listing.training] + [_case(case, "Ts", rule) for case in listing.test]
    known = {case.id for case in cases} | listing.damaged
    skipped = [_skipped(finding) for finding in listing.findings if finding.case or finding.code == "file-name"]
    skipped += [
        Skipped(what=name, why="listed in dataset.json, but there is no such file")
        for name in listed_only
        if name not in known
    ]
    splits = source / "splits_final.json"
    return Survey(
        format=f"{NAME} {version}",
        channels=options.channels or file.channels,
        labels=labels,
        value_map=value_map,
        file_ending=pictures.ending,
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or file.modality,
        information=information(content),
        class_prompts={name: text for name, text in file.class_prompts.items() if text != name},
        splits=splits if splits.is_file() and not _incomplete(listing) else None,
    )


def _version_1(source: Path, content: Mapping[str, Any], path: Path) -> DatasetFile:
    endings = {ending_of(image) for image in files_in(source / "imagesTr")} - {""}
    if len(endings) > 1:
        raise DataError(
            "mixed endings", where=source / "imagesTr", why=", ".join(sorted(endings)), fix="convert to one"
        )
    return DatasetFile(
        channels=channels_by_number(content),
        labels=classes_by_value(content, path),
        file_ending=endings.pop() if endings else ".nii.gz",
        modality=", ".join(channels_by_number(content)),
    )


def _listed_cases(content: Mapping[str, Any]) -> list[str]:
    found = []
    for entry in [*(content.get("training") or []), *(content.get("test") or [])]:
        image = entry.get("image") if isinstance(entry, dict) else entry
        if isinstance(image, str):
            found.append(stem_of(Path(image)))
    return found


def _case(case: Case, split: Literal["Tr", "Ts"], rule: Any) -> SourceCase:
    patient = case.patient if rule is None else patient_of(case.id, rule)
    load = partial(load_files, case.images, case.label, Reading())
    files = case.images if case.label is None else (*case.images, case.label)
    return SourceCase(id=case.id, patient=patient, split=split, files=files, load=load)


def _incomplete(listing: Listing) -> bool:
    return bool(listing.damaged)


def _skipped(finding: Finding) -> Skipped:
    return Skipped(what=finding.case or finding.file, why=finding.message)


FORMAT = Format(
    name=NAME,
    description="nnU-Net raw folders: TaskXXX_Name (v1) and DatasetXXX_Name (v2)",
    modality="any",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="from dataset.json",
    licence="the dataset's own",
    signs="a dataset.json of nnU-Net, and images with channel numbers (_0000)",
)
