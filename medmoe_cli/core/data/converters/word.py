"""WORD: whole abdominal CT with 16 organs.

Layout: WORD-V0.1.0/{imagesTr,labelsTr,imagesVal,labelsVal,imagesTs,labelsTs}/word_0002.nii.gz. The labels of the test
set come in an archive of their own and belong into labelsTs. Reference: HiLab-git/WORD, README.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.organ_check import label_voxels, organ_sizes, require_many
from medmoe_cli.core.data.converters.release import numbers, official_fold
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey, renumber
from medmoe_cli.core.data.converters.split_folders import Side, release_root, survey_numbered

NAME = "word"
_CLASSES = {
    "liver": 1,
    "spleen": 2,
    "kidney_left": 3,
    "kidney_right": 4,
    "stomach": 5,
    "gallbladder": 6,
    "esophagus": 7,
    "pancreas": 8,
    "duodenum": 9,
    "colon": 10,
    "intestine": 11,
    "adrenal_gland": 12,
    "rectum": 13,
    "urinary_bladder": 14,
    "femur_head_left": 15,
    "femur_head_right": 16,
}
_PROMPTS = {
    "femur_head_left": "left head of femur",
    "femur_head_right": "right head of femur",
    "intestine": "small intestine",
}
_VALIDATION = numbers("1,7,15,25,31,35,39,45,48,66,75,80,83,85,98,112,137,139,141,149")
_TEST = numbers("14,16,17,19,21,23,24,33,34,37,43,50,52,54,57,60,69,74,76,77,88,92,97,99,103,110,120,124,129,131")
_OFFICIAL: Mapping[Side, Sequence[int]] = {
    "training": tuple(sorted({*range(1, 151)} - {*_VALIDATION, *_TEST})),
    "validation": _VALIDATION,
    "test": _TEST,
}
_FILE = re.compile(r"(word_(\d{4}))\.nii(?:\.gz)?", re.IGNORECASE)
_LICENCE = "GPL-3.0, academic research only"


def looks_like(source: Path) -> bool:
    """word_0002.nii.gz in one of the release's six folders."""
    return release_root(source, "word", _FILE) is not None


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release.

    Raises:
        DataError: two files of one case, or labels that are not those of WORD.
    """
    root = release_root(source, "word", _FILE)
    if root is None:
        raise DataError("no word_0000.nii.gz", where=source, fix="name the folder that holds imagesTr")
    found = survey_numbered(root, _FILE, _OFFICIAL, options)
    fix = "use the original labels; SAM-Med3D's folders, one class each, are --format sam-med3d"
    require_many(organ_sizes(found.labels, label_voxels), _CLASSES, where=root, fix=fix)
    names = {side: {f"word_{number:04d}" for number in listed} for side, listed in _OFFICIAL.items()}
    folds, notes = official_fold("the release's 100/20", names["training"], names["validation"], found.cases)
    tests = [case for case in found.cases if case.split == "Ts"]
    if any(len(case.files) == 1 for case in tests):
        notes += ("test cases without a label: the release has their labels in a separate archive, for labelsTs",)
    values, value_map = renumber(_CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "CT",),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=found.cases,
        skipped=found.skipped,
        modality=options.modality or "CT",
        information={"reference": "WORD, github.com/HiLab-git/WORD", "licence": _LICENCE},
        class_prompts=_PROMPTS,
        notes=(*found.notes, *notes),
        folds=folds,
    )


FORMAT = Format(
    name=NAME,
    description="WORD abdominal CT (WORD-V0.1.0)",
    modality="CT",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="16 abdominal organs",
    licence=_LICENCE,
    obtain="links in the README of github.com/HiLab-git/WORD; its archive has a password, unpack it with 7z",
    particular=2,
    signs="word_0002.nii.gz in imagesTr, imagesVal or imagesTs",
)
