"""ISIC challenges 2016, 2017 and 2018, task 1: dermoscopy with one lesion mask each, and official parts.

Layout: one folder of pictures and one of masks per part, as the archives unpack (ISIC2018_Task1-2_Training_Input and
ISIC2018_Task1_Training_GroundTruth). The validation part joins the training cases and is the official fold; the test
part goes to imagesTs. The three years share pictures, so that they are never taken together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.label_values import SOFT_THRESHOLD
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.picture_case import load_picture
from medmoe_cli.core.data.converters.source import ConvertOptions, Fold, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.imaging.formats import is_junk

NAME = "isic"
_FOLDER = re.compile(
    r"(?:ISBI(?P<a>2016)_ISIC_Part1|ISIC-?(?P<b>2017)|ISIC(?P<c>2018)_Task1(?:-2)?)"
    r"_(?P<part>Training|Validation|Test)(?:_v2)?(?:_Part1)?_(?P<kind>Data|Input|GroundTruth)",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"(ISIC_\d{7})\.jpe?g", re.IGNORECASE)
_MASK = re.compile(r"(ISIC_\d{7})_segmentation\.png", re.IGNORECASE)
_SUPERPIXELS = re.compile(r"ISIC_\d{7}_superpixels\.png", re.IGNORECASE)
_DEPTH = 2
_SIZES: Mapping[tuple[str, str], int] = {
    ("2016", "training"): 900,
    ("2016", "test"): 379,
    ("2017", "training"): 2000,
    ("2017", "validation"): 150,
    ("2017", "test"): 600,
    ("2018", "training"): 2594,
    ("2018", "validation"): 100,
    ("2018", "test"): 1000,
}
"""Pictures per part, as published; those of 2018's validation and test are reported from use."""
_LICENCES = {"2016": "CC0 (as cited)", "2017": "unknown", "2018": "CC BY-NC 4.0 (as cited)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A folder of the release."""

    year: str
    part: str
    masks: bool
    folder: Path


def looks_like(source: Path) -> bool:
    """A folder of pictures under the name that the challenge gives it."""
    return any(not part.masks for part in _parts(source))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the parts of one year.

    Raises:
        ConfigError: several years, or a year that is not there.
        DataError: a picture or mask is there twice.
    """
    parts = list(_parts(source))
    year = _year(parts, options)
    pictures: OneOf[tuple[str, str]] = OneOf()
    masks: OneOf[tuple[str, str]] = OneOf()
    superpixels, others = 0, []
    for place in parts:
        if place.year != year:
            continue
        for path in files_in(place.folder):
            match = (_MASK if place.masks else _PICTURE).fullmatch(path.name)
            if match is not None:
                (masks if place.masks else pictures).add((place.part, match[1].upper()), path)
            elif _SUPERPIXELS.fullmatch(path.name):
                superpixels += 1
            else:
                others.append(path.name)
    pictures.require_single()
    masks.require_single()
    skipped: list[Skipped] = []
    cases = _cases(pictures.files, masks.files, options, skipped)
    if superpixels:
        skipped.append(
            Skipped(what=f"{superpixels} files *_superpixels.png", why="they are no pictures", is_case=False)
        )
    if others:
        skipped.append(Skipped(what=some(sorted(set(others)), 6), why="neither picture nor mask", is_case=False))
    return Survey(
        format=NAME,
        channels=options.channels or ("R", "G", "B"),
        labels={"lesion": 1},
        value_map={1: 1},
        threshold=SOFT_THRESHOLD,
        file_ending=".png",
        cases=cases,
        skipped=tuple(skipped),
        modality=options.modality or "dermoscopy",
        information={"reference": f"ISIC challenge {year}, task 1", "licence": _LICENCES[year]},
        class_prompts={"lesion": "skin lesion"},
        notes=tuple(_notes(year, pictures.files)),
        folds=_folds(pictures.files, cases),
    )


def _parts(source: Path) -> Iterator[_Part]:
    for folder in _folders(source, _DEPTH):
        match = _FOLDER.fullmatch(folder.name)
        if match is not None:
            year = match["a"] or match["b"] or match["c"]
            kind = match["kind"].lower()
            yield _Part(year=year, part=match["part"].lower(), masks=kind == "groundtruth", folder=folder)


def _folders(source: Path, depth: int) -> Iterator[Path]:
    for path in sorted(source.iterdir()):
        if path.is_dir() and not is_junk(path):
            yield path
            if depth > 0:
                yield from _folders(path, depth - 1)


def _year(parts: list[_Part], options: ConvertOptions) -> str:
    years = sorted({part.year for part in parts if not part.masks})
    if len(options.subset) > 1 or set(options.subset) - set(years):
        raise ConfigError(
            f"no such year: --subset {','.join(options.subset)}",
            why=f"there is {', '.join(years)}, one at a time",
            fix=f"--subset {years[0]}",
        )
    if len(years) > 1 and not options.subset:
        raise ConfigError(
            "several years of the challenge",
            why=f"{' and '.join(years)} share pictures: together, test pictures would be trained on",
            fix=f"--subset {years[-1]}",
        )
    return options.subset[0] if options.subset else years[0]


def _cases(
    pictures: Mapping[tuple[str, str], Path],
    masks: Mapping[tuple[str, str], Path],
    options: ConvertOptions,
    skipped: list[Skipped],
) -> tuple[SourceCase, ...]:
    rule = patient_rule(options.patient_regex)
    cases = []
    for (part, case), picture in sorted(pictures.items()):
        mask = masks.get((part, case))
        split: Literal["Tr", "Ts"] = "Ts" if part == "test" else "Tr"
        if mask is None and split == "Tr":
            skipped.append(Skipped(what=case, why=f"a {part} picture without a mask"))
            continue
        files = (picture,) if mask is None else (picture, mask)
        load = partial(load_picture, picture, mask, colour=True)
        cases.append(SourceCase(id=case, patient=patient_of(case, rule), split=split, files=files, load=load))
    skipped += [
        Skipped(what=masks[part, case].name, why=f"a {part} mask without its picture", is_case=False)
        for part, case in sorted(masks.keys() - pictures.keys())
    ]
    return tuple(cases)


def _folds(pictures: Mapping[tuple[str, str], Path], cases: tuple[SourceCase, ...]) -> tuple[Fold, ...]:
    """The official fold, where the year has a validation part."""
    ids = {case.id for case in cases if case.split == "Tr"}
    train, val = (
        tuple(sorted(case for part, case in pictures if part == wanted and case in ids))
        for wanted in ("training", "validation")
    )
    return (Fold(train=train, val=val),) if train and val else ()


def _notes(year: str, pictures: Mapping[tuple[str, str], Path]) -> Iterator[str]:
    for (_, part), size in ((key, size) for key, size in _SIZES.items() if key[0] == year):
        found = sum(name == part for name, _ in pictures)
        if found != size:
            yield f"{part}: {found} pictures, {size} in the release of {year}"
    yield "the release names no patients: each picture counts as one of its own"


FORMAT = Format(
    name=NAME,
    description="ISIC 2016, 2017 and 2018 task 1, one year at a time (--subset 2018)",
    modality="dermoscopy",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="lesion",
    licence="2016: CC0, 2018: CC BY-NC 4.0 (both as cited elsewhere), 2017: unknown; the archive has one per picture",
    obtain="challenge.isic-archive.com/data, without an account",
    particular=2,
    signs="folders of pictures such as ISIC2018_Task1-2_Training_Input",
    subsets=("2016", "2017", "2018"),
)
