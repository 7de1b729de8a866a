"""MMWHS 2017: whole hearts in CT and MR with seven structures.

Files are known by their names wherever they lie: ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz.
A label of MR 1010 says 421 where 420 is meant. The 16/4 fold is that of SIFA and PnP-AdaNet (cchen-cc/SIFA).
Reference: http://www.zmic.org.cn/care_2024/track5/ (label values).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.checked_pair import load_pair
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.release import glimpse, mixed_channel, named, official_fold, parts_of
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.imaging.read import read_geometry

NAME = "mmwhs"
_CLASSES = {
    "myocardium": 205,
    "left_atrium": 420,
    "left_ventricle": 500,
    "right_atrium": 550,
    "right_ventricle": 600,
    "ascending_aorta": 820,
    "pulmonary_artery": 850,
}
_SLIPS = {421: 420}
_PARTS = {"ct": "CT", "mr": "MR"}
_VALIDATION = {"ct": (1003, 1008, 1014, 1019), "mr": (1007, 1009, 1018, 1019)}
_TRAINING = range(1001, 1021)
_FILE = re.compile(r"(ct|mr)_(train|test)_(\d{4})_(image|label)\.nii(?:\.gz)?", re.IGNORECASE)
_LABEL = re.compile(r"(?:ct|mr)_train_\d{4}_label\.nii(?:\.gz)?", re.IGNORECASE)
_LICENCE = "unknown: research use after registration"


def looks_like(source: Path) -> bool:
    """A file named ct_train_1001_label.nii.gz (copies in other layouts give image and mask one name)."""
    return glimpse(source, _LABEL)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release, or its CT or MR part.

    Raises:
        ConfigError: a part of --subset is not there.
        DataError: two files of one case.
    """
    found: OneOf[tuple[str, str, str]] = OneOf()
    tests: set[str] = set()
    for path, match in named(source, _FILE):
        part, split, number, kind = (group.lower() for group in match.groups())
        found.add((part, f"mmwhs_{part}{number}", kind), path)
        if split == "test":
            tests.add(f"mmwhs_{part}{number}")
    found.require_single()
    parts = parts_of(options, {part for part, _, _ in found.files}, _PARTS, source)
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    skipped: list[Skipped] = []
    for part, case in sorted({(part, case) for part, case, _ in found.files if part in parts}):
        image, label = found.files.get((part, case, "image")), found.files.get((part, case, "label"))
        test = case in tests
        if image is None:
            skipped.append(Skipped(what=case, why="a label without its image", is_case=False))
            continue
        if label is None and not test:
            skipped.append(Skipped(what=case, why="a training image without its label"))
            continue
        if label is not None and test and not _readable(label):
            skipped.append(
                Skipped(what=label.name, why="no readable NIfTI: the test truth is not public", is_case=False)
            )
            label = None
        cases.append(
            SourceCase(
                id=case,
                patient=patient_of(case, rule),
                split="Ts" if test else "Tr",
                files=(image,) if label is None else (image, label),
                load=partial(load_pair, image, label),
            )
        )
    held_out = {f"mmwhs_{part}{number}" for part in parts for number in _VALIDATION[part]}
    training = {f"mmwhs_{part}{number}" for part in parts for number in _TRAINING} - held_out
    folds, fold_notes = official_fold("SIFA's 16/4", training, held_out, cases)
    modality, channel, notes = mixed_channel([_PARTS[part] for part in parts])
    if any(case.id == "mmwhs_mr1002" for case in cases):
        notes += ("mr_train_1002 is taken whole; some users cut 10 voxels off it, for a reason that is not known",)
    values, value_map = renumber(_CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or channel,),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or modality,
        information={"reference": "MM-WHS 2017, zmiclab.github.io/zxh/0/mmwhs", "licence": _LICENCE},
        class_prompts={"myocardium": "myocardium of the left ventricle"},
        notes=("orientations differ between cases and are kept", *notes, *fold_notes),
        folds=folds,
        mended=_SLIPS,
    )


def _readable(label: Path) -> bool:
    try:
        read_geometry(label)
    except MedMoEError:
        return False
    return True


FORMAT = Format(
    name=NAME,
    description="MMWHS 2017 whole hearts; --subset ct or mr takes one modality",
    modality="CT, MR",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="myocardium, four heart chambers, ascending aorta, pulmonary artery",
    licence=_LICENCE,
    obtain="zmiclab.github.io/zxh/0/mmwhs, after registration",
    particular=2,
    signs="ct_train_1001_label.nii.gz, or mr_train",
    subsets=tuple(_PARTS),
)
