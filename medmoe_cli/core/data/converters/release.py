"""What converters of public releases share: files by their names, parts to take, official numbers and folds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.data.converters.source import ConvertOptions, Fold, SourceCase
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.formats import is_junk

_GLANCE = 2000
"""Files that are looked at before a folder counts as another release."""

_DEPTH = 8


def walk(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Files of a folder, then those of its sub-folders, sorted by name, without junk."""
    entries = sorted(path for path in folder.iterdir() if not is_junk(path))
    yield from (path for path in entries if path.is_file())
    if depth > 1:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry, depth - 1)


def named(source: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    """Every file whose whole name matches."""
    for path in walk(source):
        match = pattern.fullmatch(path.name)
        if match is not None:
            yield path, match


def glimpse(source: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a file of such a name is among the first ones: cheap, for `looks_like`."""
    return any(pattern.fullmatch(path.name) for path in islice(walk(source), _GLANCE))


def numbers(text: str) -> tuple[int, ...]:
    """'1,4-7' as (1, 4, 5, 6, 7)."""
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def parts_of(options: ConvertOptions, present: Collection[str], known: Mapping[str, str], where: Path) -> list[str]:
    """The parts of --subset that are there, all of them without the option; in the order of `known`.

    Args:
        options: its subset names known parts, upper and lower case alike.
        present: parts that the source holds.
        known: every part, and what it is.
        where: for the message.

    Raises:
        ConfigError: a part that is not there.
    """
    wanted = [name.lower() for name in options.subset]
    for name in wanted:
        if name not in present:
            there = ", ".join(part for part in known if part in present)
            raise ConfigError(f"no {known[name]} here", where=where, why=f"there is {there}", fix="correct --subset")
    return [part for part in known if part in (wanted or present)]


def official_fold(
    name: str, train: Collection[str], val: Collection[str], cases: Sequence[SourceCase]
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """One published fold over the training cases that are there, and what to say of it.

    Args:
        name: what the fold is called.
        train: case ids, or patients, on the side of training.
        val: those held out.
        cases: of the survey.

    Returns:
        The fold, or none where a side is empty; and notes.
    """
    labelled = [case for case in cases if case.split == "Tr"]
    sides = {
        side: tuple(sorted(case.id for case in labelled if case.id in ids or case.patient in ids))
        for side, ids in (("train", train), ("val", val))
    }
    if not sides["train"] or not sides["val"]:
        return (), (f"no fold '{name}': one of its sides has no case here",)
    notes = []
    rest = sorted(case.id for case in labelled if case.id not in sides["train"] and case.id not in sides["val"])
    if rest:
        notes.append(f"{len(rest)} labelled cases are on neither side of it: {some(rest)}")
    return (Fold(train=sides["train"], val=sides["val"], name=name),), tuple(notes)


def mixed_channel(modalities: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
    """Modality, channel name and notes of a dataset that holds one modality, or CT and MR together."""
    if len(modalities) == 1:
        return modalities[0], modalities[0], ()
    note = (
        f"{' and '.join(modalities)} together: no Hounsfield window is planned, each image is scaled by its own "
        "percentiles; --subset takes one of them"
    )
    return "", "image", (note,)
