"""AMOS 2022: abdominal CT and MR with 15 organs.

Layout: amos22/{imagesTr,labelsTr,imagesVa,labelsVa,imagesTs}/amos_0001.nii.gz, without channel numbers. Below 500 an id
is a CT, from 500 on an MR. dataset.json calls the aorta 'arota'. The official split is from the release's own lists.
Reference: MIC-DKFZ/nnUNet, Dataset218 and Dataset219; zhaoziheng/SAT-DS, AMOS22_CT and AMOS22_MRI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import classes_by_value
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.organ_check import label_voxels, organ_sizes, require_many
from medmoe_cli.core.data.converters.release import mixed_channel, numbers, official_fold, parts_of
from medmoe_cli.core.data.converters.source import ConvertOptions, SourceCase, Survey, renumber
from medmoe_cli.core.data.converters.split_folders import Side, release_root, survey_numbered
from medmoe_cli.core.data.vocabulary import key_of

NAME = "amos"
_CLASSES = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "pancreas": 10,
    "adrenal_gland_right": 11,
    "adrenal_gland_left": 12,
    "duodenum": 13,
    "urinary_bladder": 14,
    "prostate_uterus": 15,
}
_PARTS = {"ct": "CT", "mr": "MR"}
_FIRST_MR = 500
_OFFICIAL: Mapping[Side, Sequence[int]] = {
    "training": numbers(
        "1,4-7,9-11,14-17,19,21,23-25,27,30,33,35-36,38,42-45,47-50,52,54,57-60,64,66-67,69,71-72,75-79,81,83-84,86,"
        "88-89,92,94,97-99,102-105,109-111,113,115-116,118-119,121,124-127,129,131,133-135,137-138,141-143,147,149,"
        "152-154,156,158-162,166,170-173,175,177,179-181,184-186,188,190,192-193,195-199,212,214-215,217,224-226,"
        "230-231,235,237,239,242,245,248-249,254,259,263-264,268,272-274,276,279,281-282,288,294,296-297,299,301-302,"
        "307,317,320-321,330,332,336-337,341,348-351,353,358,361-362,366-367,370-371,374,376,378-381,383-384,387-388,"
        "390-392,395-396,398,400-406,408,410,"
        "507-508,510,514,517-518,522,530,532,538,540-541,548,551,554-555,557-558,570-571,578,580,582-597,599-600"
    ),
    "validation": numbers(
        "8,13,18,22,29,32,34,40-41,51,56,61,63,70,73,85,87,90,106,108,112,117,120,123,128,132,136,140,144,150,155,157,"
        "167,174,176,189,191,194,200,202-204,206-208,216,218-219,223,228,233,238,244,247,250,255,257-258,278,280,"
        "283-284,286-287,289-290,292-293,304,308-311,313,316,318,323,325-326,328,333-334,339,342,344,346,352,356-357,"
        "363-365,368,372-373,377,385,397,399,409,"
        "544-547,549-550,552-553,556,559,561-563,568,572-573,575-576,581,598"
    ),
}
_FILE = re.compile(r"(amos_(\d{4}))\.nii(?:\.gz)?", re.IGNORECASE)
_LICENCE = "CC BY 4.0 (Zenodo), CC BY-SA 4.0 (dataset.json), CC BY-NC (OpenReview): the sources disagree"


def looks_like(source: Path) -> bool:
    """amos_0001.nii.gz in one of the release's folders."""
    return release_root(source, "amos", _FILE) is not None


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release, or its CT or MR part.

    Raises:
        ConfigError: a part of --subset is not there.
        DataError: two files of one case, or labels that are not those of AMOS.
    """
    root = release_root(source, "amos", _FILE)
    if root is None:
        raise DataError("no amos_0000.nii.gz", where=source, fix="name the folder that holds imagesTr")
    present = {_part(int(match[2])) for path in root.glob("*/*") if (match := _FILE.fullmatch(path.name))}
    parts = parts_of(options, present, _PARTS, root)
    found = survey_numbered(root, _FILE, _OFFICIAL, options, keep=lambda number: _part(number) in parts)
    fix = "use the original labels; SAM-Med3D's folders, one class each, are --format sam-med3d"
    require_many(organ_sizes(found.labels, label_voxels), _CLASSES, where=root, fix=fix)
    _require_classes(root / "dataset.json")
    names = {side: {f"amos_{number:04d}" for number in listed} for side, listed in _OFFICIAL.items()}
    folds, fold_notes = official_fold("the release's 240/120", names["training"], names["validation"], found.cases)
    modality, channel, notes = mixed_channel([_PARTS[part] for part in parts])
    tests = sum(case.split == "Ts" for case in found.cases)
    if tests:
        notes += (f"{tests} test cases (readme copies disagree: 240 or 120); {_labelled(found.cases)}",)
    if "mr" in parts:
        notes += ("in MR the bladder and the prostate or uterus are usually not annotated",)
    values, value_map = renumber(_CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or channel,),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=found.cases,
        skipped=found.skipped,
        modality=options.modality or modality,
        information={"reference": "AMOS 2022, zenodo.org/records/7262581", "licence": _LICENCE},
        class_prompts={"prostate_uterus": "prostate or uterus"},
        notes=(*found.notes, *notes, *fold_notes),
        folds=folds,
    )


def _labelled(cases: Sequence[SourceCase]) -> str:
    here = sum(case.split == "Ts" and len(case.files) > 1 for case in cases)
    return f"{here} of them with labels here" if here else "their labels are not public"


def _require_classes(path: Path) -> None:
    """The release's own dataset.json, where it is there, numbers the organs as this converter does.

    Raises:
        DataError: it does not, or it cannot be read.
    """
    content = jsonio.read(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        return
    theirs = {value: key_of(name) for name, value in classes_by_value(content, path).items()}
    ours = {value: key_of(name) for name, value in _CLASSES.items()}
    differing = [value for value in sorted(theirs) if theirs[value] != ours.get(value)]
    if differing:
        listed = ", ".join(f"{value} is {theirs[value]}, not {ours.get(value, 'known')}" for value in differing[:4])
        raise DataError(
            "label values of another order than AMOS",
            where=path,
            why=listed,
            fix="restore the release's dataset.json; labels of another order are --format nnunet or msd",
        )


def _part(number: int) -> str:
    return "mr" if number >= _FIRST_MR else "ct"


FORMAT = Format(
    name=NAME,
    description="AMOS 2022 abdominal CT and MR; --subset ct or mr takes one modality",
    modality="CT, MR",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="15 abdominal organs",
    licence=_LICENCE,
    obtain="zenodo.org, record 7262581, or amos22.grand-challenge.org",
    particular=2,
    signs="amos_0001.nii.gz in imagesTr, imagesVa or imagesTs",
    subsets=tuple(_PARTS),
)
