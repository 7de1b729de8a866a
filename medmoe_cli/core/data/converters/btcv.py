"""BTCV, "Beyond the Cranial Vault": raw abdominal CT of the Synapse challenge with 13 organs.

Layout: [Abdomen/]RawData/{Training,Testing}/{img,label}/{img,label}0001.nii.gz, or imagesTr and labelsTr with the same
names (MONAI). Image and label are paired by the four digits. Labels of 0061-0080 are not public.
Reference: MIC-DKFZ/nnUNet (v1), Task017; the 24/6 fold is that of UNETR and Swin UNETR.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.checked_pair import load_pair
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.organ_check import label_voxels, organ_sizes, require_largest
from medmoe_cli.core.data.converters.release import glimpse, named, numbers, official_fold
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey, renumber

NAME = "btcv"
CLASSES = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "portal_vein_and_splenic_vein": 10,
    "pancreas": 11,
    "adrenal_gland_right": 12,
    "adrenal_gland_left": 13,
}
LABELLED = numbers("1-10,21-40")
_TEST = numbers("61-80")
_VALIDATION = numbers("35-40")
_FILE = re.compile(r"(img|label)(\d{4})\.nii(?:\.gz)?", re.IGNORECASE)
_LABEL = re.compile(r"label\d{4}\.nii(?:\.gz)?", re.IGNORECASE)
_LICENCE = "unknown: given after registration, no redistribution"


def looks_like(source: Path) -> bool:
    """A file named label0001.nii.gz (copies in other layouts give image and mask one name)."""
    return glimpse(source, _LABEL)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release.

    Raises:
        DataError: two files of one id, or labels that are not those of BTCV.
    """
    found: OneOf[tuple[str, int]] = OneOf()
    for path, match in named(source, _FILE):
        found.add((match[1].lower(), int(match[2])), path)
    found.require_single()
    images = {number: path for (kind, number), path in found.files.items() if kind == "img"}
    labels = {number: path for (kind, number), path in found.files.items() if kind == "label"}
    require_largest(
        organ_sizes([labels[number] for number in sorted(labels)], label_voxels),
        CLASSES["liver"],
        "liver",
        where=source,
        fix="use the original labels; copies with 8 organs in another order share these file names",
    )
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    skipped = [
        Skipped(what=labels[number].name, why="a label without its image", is_case=False)
        for number in set(labels) - set(images)
    ]
    for number, image in sorted(images.items()):
        case, label = f"btcv_{number:04d}", labels.get(number)
        if label is None and number not in _TEST:
            skipped.append(Skipped(what=image.name, why="a training image without its label"))
            continue
        cases.append(
            SourceCase(
                id=case,
                patient=patient_of(case, rule),
                split="Ts" if number in _TEST else "Tr",
                files=(image,) if label is None else (image, label),
                load=partial(load_pair, image, label),
            )
        )
    training = {f"btcv_{number:04d}" for number in LABELLED if number not in _VALIDATION}
    folds, notes = official_fold("Swin UNETR's 24/6", training, {f"btcv_{number:04d}" for number in _VALIDATION}, cases)
    strangers = sorted(number for number in images if number not in (*LABELLED, *_TEST))
    if strangers:
        notes += (f"ids that the release does not have: {strangers}",)
    tests = sum(case.split == "Ts" for case in cases)
    values, value_map = renumber(CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "CT",),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "CT",
        information={"reference": "synapse.org, syn3193805", "licence": _LICENCE},
        folds=folds,
        notes=(
            f"{len(cases) - tests} of 30 labelled and {tests} of 20 test cases; the header of each label is compared "
            "with its image's",
            *notes,
        ),
    )


FORMAT = Format(
    name=NAME,
    description="BTCV / Synapse abdominal CT as released (RawData/Training/img, label), or in MONAI's folders",
    modality="CT",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="13 abdominal organs",
    licence=_LICENCE,
    obtain="synapse.org, project syn3193805, after registration for the challenge",
    particular=2,
    signs="img0001.nii.gz and label0001.nii.gz",
)
