"""Releases that lie in imagesTr, labelsTr, imagesVa, labelsVa, imagesTs, labelsTs, with numbered cases in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from medmoe_cli.core.data.converters.checked_pair import load_pair
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase
from medmoe_cli.core.data.filenames import files_in, some

_FOLDER = re.compile(r"(images|labels)(Tr|Va|Val|Ts)", re.IGNORECASE)
Side = Literal["training", "validation", "test"]
_SIDES: Mapping[str, Side] = {"tr": "training", "va": "validation", "val": "validation", "ts": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """What such a release holds.

    Attributes:
        cases: training and validation cases are labelled ones, test cases may be.
        labels: label files of the labelled ones, sorted.
        skipped: files without a partner.
        notes: where folders contradict the official split.
    """

    cases: tuple[SourceCase, ...]
    labels: tuple[Path, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def release_root(source: Path, prefix: str, pattern: re.Pattern[str]) -> Path | None:
    """The source, or the release's own folder in it, where imagesTr (or another of the six) holds such files."""
    if not source.is_dir():
        return None
    inner = sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower().startswith(prefix))
    for root in (source, *inner):
        folders = [path for path in root.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name)]
        if any(pattern.fullmatch(path.name) for folder in folders for path in files_in(folder)):
            return root
    return None


def survey_numbered(
    root: Path,
    pattern: re.Pattern[str],
    official: Mapping[Side, Sequence[int]],
    options: ConvertOptions,
    *,
    keep: Callable[[int], bool] = lambda _: True,
) -> Numbered:
    """Pair the images and labels of a release by their numbers.

    Args:
        root: the folder with imagesTr.
        pattern: of file names; its first group is the case id, its second the number.
        official: numbers by side; sides whose numbers are not published are left out.
        options: its patient rule is used.
        keep: numbers that are wanted.

    Raises:
        DataError: two files of one number.
    """
    images: OneOf[int] = OneOf()
    labels: OneOf[int] = OneOf()
    sides: dict[int, Side] = {}
    names: dict[int, str] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        kind = _FOLDER.fullmatch(folder.name)
        for path in files_in(folder) if kind is not None else ():
            match = pattern.fullmatch(path.name)
            if kind is None or match is None or not keep(int(match[2])):
                continue
            number = int(match[2])
            names[number] = match[1].lower()
            if kind[1].lower() == "images":
                images.add(number, path)
                sides[number] = _SIDES[kind[2].lower()]
            else:
                labels.add(number, path)
    images.require_single()
    labels.require_single()
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    skipped = [
        Skipped(what=path.name, why="a label without its image", is_case=False)
        for number, path in sorted(labels.files.items())
        if number not in images.files
    ]
    for number, image in sorted(images.files.items()):
        label = labels.files.get(number)
        if label is None and sides[number] != "test":
            skipped.append(Skipped(what=image.name, why=f"a {sides[number]} image without its label"))
            continue
        cases.append(
            SourceCase(
                id=names[number],
                patient=patient_of(names[number], rule),
                split="Ts" if sides[number] == "test" else "Tr",
                files=(image,) if label is None else (image, label),
                load=partial(load_pair, image, label),
            )
        )
    return Numbered(
        cases=tuple(cases),
        labels=tuple(path for number, path in sorted(labels.files.items()) if number in images.files),
        skipped=tuple(skipped),
        notes=_contradictions(sides, names, official),
    )


def _contradictions(
    sides: Mapping[int, Side], names: Mapping[int, str], official: Mapping[Side, Sequence[int]]
) -> tuple[str, ...]:
    where = {number: side for side, listed in official.items() for number in listed}
    moved = [
        f"{names[n]} ({sides[n]}, officially {where[n]})" for n in sorted(sides) if where.get(n, sides[n]) != sides[n]
    ]
    unlisted = [names[n] for n in sorted(sides) if n not in where and sides[n] in official]
    notes = []
    if moved:
        notes.append(f"folders that contradict the official split, the folders count for the test set: {some(moved)}")
    if unlisted:
        notes.append(f"cases that the official split does not list: {some(unlisted)}")
    return tuple(notes)
