"""SZ-CXR: Shenzhen chest X-rays (NLM) with the lung masks of Stirenko et al.; 96 of the 662 were never annotated.

Layouts: ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png beside mask/mask/CHNCXR_0001_0_mask.png, or Kaggle's 'Chest Xray
Masks and Labels' (CXR_png, masks, test, with Montgomery's X-rays among them). Files are known by their names.
Reference: pegasus-isi/lung-instance-segmentation-workflow for the X-rays without masks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.label_values import SOFT_THRESHOLD
from medmoe_cli.core.data.converters.picture_case import load_picture
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_below

NAME = "sz-cxr"
_FILE = re.compile(r"(CHNCXR_\d{4}_[01])(_mask)?\.png", re.IGNORECASE)
_MONTGOMERY = re.compile(r"MCUCXR_\d{4}_[01](_mask)?\.png", re.IGNORECASE)
_PATIENT = r"(CHNCXR_\d{4})_[01]"
_MASK_FOLDERS = ("mask", "masks")
_COPIES = ("test",)
_MASKS = 566
_LICENCE = "X-rays: terms of the NLM, not stated with the files; masks: as on Kaggle; unknown"
WITHOUT_MASK = frozenset(
    f"CHNCXR_{number:04d}_{finding}"
    for numbers, finding in (
        ((25, *range(36, 41), 65, *range(181, 221)), 0),
        ((336, *range(341, 361), *range(481, 501), 502, 505, *range(560, 566)), 1),
    )
    for number in numbers
)
"""The 96 X-rays that no one annotated."""


def looks_like(source: Path) -> bool:
    """An X-ray or mask of the name that the Shenzhen set gives it."""
    return any(_FILE.fullmatch(path.name) for path in source.rglob("CHNCXR_*"))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the X-rays and masks below a folder.

    Raises:
        DataError: there is no mask at all, or a file is there twice with different content.
    """
    pictures: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    montgomery = 0
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            montgomery += bool(_MONTGOMERY.fullmatch(path.name))
            continue
        is_mask = bool(match[2]) or path.parent.name.lower() in _MASK_FOLDERS
        (masks if is_mask else pictures)[match[1].upper()].append(path)
    if not masks:
        raise DataError(
            "X-rays without masks",
            where=source,
            why=f"{len(pictures)} X-rays, no CHNCXR_NNNN_N_mask.png",
            fix="put the masks (Kaggle, yoctoman/shcxr-lung-mask) into a sub-folder mask/",
        )
    skipped = _without_partner(pictures, masks)
    if montgomery:
        skipped.append(
            Skipped(what=f"{montgomery} files MCUCXR_*", why="Montgomery's X-rays, another collection", is_case=False)
        )
    rule = patient_rule(options.patient_regex or _PATIENT)
    cases = []
    for case in sorted(pictures.keys() & masks.keys()):
        files = (_single(pictures[case]), _single(masks[case]))
        load = partial(load_picture, *files, colour=False)
        cases.append(SourceCase(id=case, patient=patient_of(case, rule), split="Tr", files=files, load=load))
    unexpected = sorted(WITHOUT_MASK & masks.keys())
    notes = [f"{len(cases)} X-rays with masks, {_MASKS} in the whole release; it has no official split"]
    if unexpected:
        notes.append(f"{len(unexpected)} X-rays have masks that the release does not have, such as {unexpected[0]}")
    return Survey(
        format=NAME,
        channels=options.channels or ("grey",),
        labels={"lung": 1},
        value_map={1: 1},
        threshold=SOFT_THRESHOLD,
        file_ending=".png",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "X-ray",
        information={"reference": "Jaeger et al. 2014; masks: Stirenko et al. 2018", "licence": _LICENCE},
        notes=tuple(notes),
    )


def _without_partner(pictures: dict[str, list[Path]], masks: dict[str, list[Path]]) -> list[Skipped]:
    skipped = []
    for case in sorted(pictures.keys() - masks.keys()):
        known = case in WITHOUT_MASK
        why = "one of the 96 X-rays that were never annotated: no mask is not an empty mask"
        skipped.append(Skipped(what=case, why=why if known else "its mask, which the release has, is not here"))
    skipped += [
        Skipped(what=masks[case][0].name, why="a mask without its X-ray", is_case=False)
        for case in sorted(masks.keys() - pictures.keys())
    ]
    return skipped


def _single(paths: list[Path]) -> Path:
    """The one file, or the original of equal copies (Kaggle's 'test' folder repeats X-rays).

    Raises:
        DataError: the copies differ.
    """
    ordered = sorted(paths, key=lambda path: (path.parent.name.lower() in _COPIES, str(path)))
    if len(ordered) > 1 and len({file_sha256(path) for path in ordered}) > 1:
        why = " and ".join(map(str, ordered))
        raise DataError("different files of one name", where=ordered[0].name, why=why, fix="remove the wrong one")
    return ordered[0]


FORMAT = Format(
    name=NAME,
    description="Shenzhen chest X-rays with lung masks; the 96 X-rays without a mask are left out",
    modality="X-ray",
    options=COMMON_OPTIONS,
    looks_like=looks_like,
    survey=survey,
    classes="lung (both lungs together)",
    licence=_LICENCE,
    obtain="X-rays: data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets; masks: Kaggle, "
    "yoctoman/shcxr-lung-mask",
    particular=2,
    signs="pictures such as CHNCXR_0001_0.png",
)
