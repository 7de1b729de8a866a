"""ACDC: short-axis cine MR of hearts, end-diastole and end-systole of each patient annotated.

Layout: database/{training,testing}/patient001/{Info.cfg, patient001_4d.nii.gz, patient001_frame01.nii.gz,
patient001_frame01_gt.nii.gz, ...}. Info.cfg is lines of `Key: value` without a section; it names the two frames, but
the truth files say which frames they really are (patient090: 04 and 11). The 4-D series is no case.
References: MIC-DKFZ/nnUNet, Dataset027; HiLab-git/SSL4MIS, data/ACDC (the 70/10/20 split of the training patients).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.checked_pair import load_pair
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.release import glimpse, named, numbers, official_fold, walk
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.data.filenames import some

NAME = "acdc"
_CLASSES = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}
_LAST_TRAINING = 100
_VALIDATION = numbers("2,19,28,30,39,45,78,82,85,87")
_HELD_BACK = numbers("1,7,8,11,13,22,24,33,52,59,64,65,66,68,75,80,81,83,84,93")
_FILE = re.compile(r"(patient(\d{3}))_(?:frame(\d{2})(_gt)?|(4d))\.nii(?:\.gz)?", re.IGNORECASE)
_TRUTH = re.compile(r"patient\d{3}_frame\d{2}_gt\.nii(?:\.gz)?", re.IGNORECASE)
_INFO = re.compile(r"(ED|ES)\s*:\s*(\d+)\s*")
_PATIENT = r"(patient\d{3})_frame\d{2}"
_LICENCE = "CC BY-NC-SA 4.0"


def looks_like(source: Path) -> bool:
    """A file named patient001_frame01_gt.nii.gz."""
    return glimpse(source, _TRUTH)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release.

    Raises:
        DataError: two files of one frame.
    """
    found: OneOf[tuple[str, int, str]] = OneOf()
    cine: list[str] = []
    for path, match in named(source, _FILE):
        if match[5]:
            cine.append(path.name)
        else:
            found.add((match[1].lower(), int(match[3]), "truth" if match[4] else "image"), path)
    found.require_single()
    rule = patient_rule(options.patient_regex or _PATIENT)
    cases: list[SourceCase] = []
    skipped: list[Skipped] = []
    for patient, frame in sorted({(patient, frame) for patient, frame, _ in found.files}):
        case = f"{patient}_frame{frame:02d}"
        image, label = found.files.get((patient, frame, "image")), found.files.get((patient, frame, "truth"))
        training = _number(patient) <= _LAST_TRAINING
        if image is None:
            skipped.append(Skipped(what=case, why="a truth file without its image", is_case=False))
            continue
        if label is None and training:
            skipped.append(Skipped(what=case, why="a training frame without its _gt file"))
            continue
        cases.append(
            SourceCase(
                id=case,
                patient=patient_of(case, rule),
                split="Tr" if training else "Ts",
                files=(image,) if label is None else (image, label),
                load=partial(load_pair, image, label),
            )
        )
    if cine:
        skipped.append(
            Skipped(
                what=f"{len(cine)} cine series ({some(cine, 2)})", why="4-D: their frames are the cases", is_case=False
            )
        )
    patients = {f"patient{number:03d}" for number in range(1, _LAST_TRAINING + 1)}
    held_back = {f"patient{number:03d}" for number in (*_VALIDATION, *_HELD_BACK)}
    validation = {f"patient{number:03d}" for number in _VALIDATION}
    folds, fold_notes = official_fold(
        "SSL4MIS's 70/10 (its 20 test patients aside)", patients - held_back, validation, cases
    )
    values, value_map = renumber(_CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "MR",),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "MR",
        information={"reference": "ACDC, doi 10.1109/TMI.2018.2837502", "licence": _LICENCE},
        class_prompts={"myocardium": "myocardium of the left ventricle"},
        notes=(*_frames_against_info(source, found), *_moved(found), *fold_notes),
        folds=folds,
    )


def _moved(found: OneOf[tuple[str, int, str]]) -> list[str]:
    """Patients that lie in the other part's folder: the number decides."""
    there = {patient: {part.lower() for part in path.parts} for (patient, _, _), path in found.files.items()}
    moved = [
        patient
        for patient, parts in sorted(there.items())
        if len(parts & {"training", "testing"}) == 1 and ("training" in parts) != (_number(patient) <= _LAST_TRAINING)
    ]
    return [f"patients in the other part's folder, their numbers count: {some(moved)}"] if moved else []


def phases(path: Path) -> dict[str, int]:
    """The frames that an Info.cfg calls ED and ES; what is not there is left out.

    Raises:
        DataError: it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("unreadable Info.cfg", where=path, why=str(error), fix="copy it again, or delete it") from error
    matches = (_INFO.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: int(match[2]) for match in matches if match is not None}


def _frames_against_info(source: Path, found: OneOf[tuple[str, int, str]]) -> list[str]:
    """What Info.cfg says of the annotated frames, where that is not what is there."""
    annotated: dict[str, list[int]] = {}
    for patient, frame, kind in sorted(found.files):
        if kind == "truth":
            annotated.setdefault(patient, []).append(frame)
    infos = {path.parent.name.lower(): path for path in walk(source) if path.name.lower() == "info.cfg"}
    notes: list[str] = []
    odd = [patient for patient, frames in annotated.items() if len(frames) != 2]
    if odd:
        notes.append(f"patients without exactly two annotated frames: {some(odd, 6)}")
    absent = [patient for patient in annotated if patient not in infos]
    if absent:
        notes.append(f"no Info.cfg for {some(absent, 6)}: which frame is end-diastole is not known there")
    for patient, frames in annotated.items():
        said = phases(infos[patient]) if patient in infos else {}
        if patient in infos and sorted(said.values()) != frames:
            listed = ", ".join(f"{phase} {frame}" for phase, frame in said.items()) or "no frame"
            notes.append(f"{patient}: Info.cfg says {listed}; the annotated frames are {', '.join(map(str, frames))}")
    late = [patient for patient, frames in annotated.items() if frames[0] != 1]
    if late:
        notes.append(f"end-diastole is not frame 01 in {some(late, 6)}")
    return notes


def _number(patient: str) -> int:
    return int(patient[len("patient") :])


FORMAT = Format(
    name=NAME,
    description="ACDC cardiac MR as released (patient001_frame01_gt.nii.gz); testing patients become labelsTs",
    modality="MR",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="right ventricle, myocardium, left ventricle",
    licence=_LICENCE,
    obtain="humanheart-project.creatis.insa-lyon.fr/database (collection 637218c173e9f0047faa00fb)",
    particular=2,
    signs="patient001_frame01_gt.nii.gz",
)
