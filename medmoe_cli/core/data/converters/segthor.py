"""SegTHOR: thoracic CT with esophagus, heart, trachea and aorta.

Layout: train/Patient_01/{Patient_01.nii.gz, GT.nii.gz}, test/Patient_41.nii.gz (or, on Zenodo, SegTHOR/Patient_*/).
Only a file named exactly GT is the truth: course copies have a GT2 beside it, and hearts that were shifted on purpose.
Reference: MIC-DKFZ/nnUNet (v1), Task055.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.checked_pair import load_pair
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.release import glimpse, walk
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.imaging.formats import NIFTI, stem_of

NAME = "segthor"
HEART_IN_AIR = "the heart lies partly in air: course copies of this release have hearts that were shifted on purpose"
NO_AORTA = "no aorta (4) in the label: some copies have the values 0 to 3 only"
_CLASSES = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
_LAST_TRAINING, _LAST_TEST = 40, 60
_AIR_HU = -300
_AIR_SHARE = 0.1
_FILE = re.compile(r"Patient_(\d{2})\.nii(?:\.gz)?")
_TRUTH = re.compile(r"GT.*\.nii(?:\.gz)?", re.IGNORECASE)
_LICENCE = "by signed agreement; the copy on Zenodo says CC BY 4.0 (not confirmed)"


def looks_like(source: Path) -> bool:
    """A file named Patient_01.nii.gz, and one named GT.nii.gz."""
    return glimpse(source, _FILE) and glimpse(source, _TRUTH)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release.

    Raises:
        DataError: two files of one patient.
    """
    images: OneOf[int] = OneOf()
    skipped: list[Skipped] = []
    for path in walk(source):
        match = _FILE.fullmatch(path.name)
        if match is not None:
            images.add(int(match[1]), path)
        elif _TRUTH.fullmatch(path.name) and stem_of(path) != "GT":
            what = str(path.relative_to(source))
            skipped.append(Skipped(what=what, why="only a file named exactly GT is the release's truth", is_case=False))
    images.require_single()
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    for number, image in sorted(images.files.items()):
        case, label = f"Patient_{number:02d}", _truth(image)
        if label is None and number <= _LAST_TRAINING:
            skipped.append(Skipped(what=case, why="a training scan without GT.nii.gz beside it"))
            continue
        cases.append(
            SourceCase(
                id=case,
                patient=patient_of(case, rule),
                split="Tr" if number <= _LAST_TRAINING else "Ts",
                files=(image,) if label is None else (image, label),
                load=partial(load_case, image, label),
            )
        )
    strangers = [number for number in images.files if not 1 <= number <= _LAST_TEST]
    values, value_map = renumber(_CLASSES)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "CT",),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "CT",
        information={"reference": "SegTHOR, competitions.codalab.org/competitions/21145", "licence": _LICENCE},
        notes=(
            f"{sum(case.split == 'Tr' for case in cases)} of 40 training and "
            f"{sum(case.split == 'Ts' for case in cases)} of 20 test cases; the test truth is not public",
            *((f"numbers that the release does not have: {sorted(strangers)}",) if strangers else ()),
        ),
    )


def load_case(image: Path, label: Path | None) -> LoadedCase:
    """Read one case and say what its label shares with altered copies of the release.

    Raises:
        MedMoEError: a file is damaged, or the label lies elsewhere.
    """
    loaded = load_pair(image, label)
    if loaded.label is None:
        return loaded
    notes = list(loaded.notes)
    heart = loaded.images[0].data[0][loaded.label == _CLASSES["heart"]]
    if heart.size and np.mean(heart < _AIR_HU) > _AIR_SHARE:
        notes.append(HEART_IN_AIR)
    if not (loaded.label == _CLASSES["aorta"]).any():
        notes.append(NO_AORTA)
    return LoadedCase(images=loaded.images, label=loaded.label, notes=tuple(notes))


def _truth(image: Path) -> Path | None:
    """GT.nii.gz or GT.nii in the patient's own folder (never beside the scans of many)."""
    if image.parent.name != stem_of(image):
        return None
    files = [image.parent / f"GT{ending}" for ending in NIFTI]
    return next((path for path in files if path.is_file()), None)


FORMAT = Format(
    name=NAME,
    description="SegTHOR thoracic CT (train/Patient_01/GT.nii.gz)",
    modality="CT",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="esophagus, heart, trachea, aorta",
    licence=_LICENCE,
    obtain="competitions.codalab.org/competitions/21145, with a signed agreement; zenodo.org, record 16663661",
    particular=2,
    signs="Patient_01.nii.gz beside GT.nii.gz",
)
