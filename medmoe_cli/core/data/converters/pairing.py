"""Which label belongs to which image in a plain folder: by case id, never by order.

An id is what is left of a file's name without its ending, without the suffix of its kind ('_mask'), and without
nnU-Net's channel number ('_0000').
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.data.filenames import files_below, split_channel
from medmoe_cli.core.imaging.dicom_files import has_dicom_magic
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of, stem_of

LABEL_SUFFIXES = ("_segmentation", "_labels", "_label", "_mask", "-mask", "_seg", "_gt")
"""What published label files carry after the case id, longest first; upper and lower case are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One readable thing: a file, or a folder with a DICOM series."""

    path: Path
    stem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One case: its images by channel, and its labels (several only with one file per class)."""

    id: str
    images: tuple[Path, ...]
    labels: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """What pairs up, and what does not."""

    pairs: tuple[Pair, ...]
    problems: tuple[DataError, ...]


def find_units(folder: Path) -> list[Unit]:
    """Image files and DICOM folders in a folder and its sub-folders."""
    units: list[Unit] = []
    series: set[Path] = set()
    for path in files_below(folder):
        ending = ending_of(path)
        if ending and ENDING_FORMATS[ending] != "dicom":
            units.append(Unit(path=path, stem=stem_of(path)))
        elif path.parent not in series and has_dicom_magic(path):
            series.add(path.parent)
            units.append(Unit(path=path.parent, stem=path.parent.name))
    return sorted(units, key=lambda unit: str(unit.path))


def split_units(units: Sequence[Unit], label_suffix: str | None) -> tuple[list[Unit], list[Unit]]:
    """Images and labels of one folder: labels carry a suffix."""
    labels = [unit for unit in units if _without(unit.stem, _label_suffixes(label_suffix)) is not None]
    return [unit for unit in units if unit not in labels], labels


def pair(
    images: Sequence[Unit], labels: Sequence[Unit], *, image_suffixes: tuple[str, ...], label_suffix: str | None
) -> Pairing:
    """Pair images with one label each."""
    problems: list[DataError] = []
    grouped = group_channels(images, image_suffixes, {unit.stem for unit in labels}, problems)
    by_id: dict[str, list[Unit]] = defaultdict(list)
    for unit in labels:
        name = unit.stem if label_suffix is None and unit.stem in grouped else _label_id(unit.stem, label_suffix)
        if name is None:
            problems.append(_odd(unit, f"its name does not end with '{label_suffix}'", "--label-suffix"))
        else:
            by_id[name].append(unit)
    pairs: list[Pair] = []
    for case, files in grouped.items():
        found = by_id.get(case, [])
        if len(found) == 1:
            pairs.append(Pair(id=case, images=files, labels=(("", found[0].path),)))
        elif found:
            problems.append(_ambiguous("labels", case, [unit.path for unit in found]))
        else:
            problems.append(_alone("image without a label", files[0], case, by_id))
    for case in sorted(set(by_id) - set(grouped)):
        problems += [_alone("label without an image", unit.path, case, grouped) for unit in by_id[case]]
    return Pairing(pairs=tuple(pairs), problems=tuple(problems))


def pair_classes(
    images: Sequence[Unit], masks: Sequence[Unit], root: Path, *, image_suffixes: tuple[str, ...]
) -> Pairing:
    """Pair images with one mask per class: CASE_CLASS.png, CASE_CLASS_000.png (instances) or CASE/CLASS.nii.gz."""
    problems: list[DataError] = []
    grouped = group_channels(images, image_suffixes, set(), problems)
    by_length = sorted(grouped, key=len, reverse=True)
    found: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for unit in masks:
        folders = unit.path.parent.relative_to(root).parts
        name = "_".join((*folders, unit.stem)) if folders and folders[0] in grouped else unit.stem
        case = next((case for case in by_length if name.startswith(f"{case}_")), None)
        if case is None:
            problems.append(_alone("mask without an image", unit.path, name, grouped))
        else:
            found[case].append((_class_of(name[len(case) + 1 :]), unit.path))
    pairs = []
    for case, files in grouped.items():
        if case in found:
            pairs.append(Pair(id=case, images=files, labels=tuple(sorted(found[case], key=lambda item: str(item[1])))))
        else:
            problems.append(_alone("image without a mask", files[0], case, found))
    return Pairing(pairs=tuple(pairs), problems=tuple(problems))


def group_channels(
    images: Sequence[Unit], suffixes: tuple[str, ...], label_stems: set[str], problems: list[DataError]
) -> dict[str, tuple[Path, ...]]:
    """Case id to image files in channel order.

    Several suffixes ('_dwi', '_adc') are the channels. Else '_0000' is a channel number when every image has one and
    all cases have the same numbers from 0; numbers that belong to the id ('amos_0507') are told by that, and by labels
    of the full name.
    """
    named: list[tuple[str, int, Unit]] = []
    for unit in images:
        found = [(_without(unit.stem, (suffix,)), channel) for channel, suffix in enumerate(suffixes or ("",))]
        name, channel = next(((name, channel) for name, channel in found if name is not None), (None, 0))
        if name is None:
            why = f"its name does not end with {' or '.join(map(repr, suffixes))}"
            problems.append(_odd(unit, why, "--image-suffix"))
        else:
            named.append((name, channel, unit))
    if len(suffixes) < 2 and _are_numbered([name for name, _, _ in named], label_stems):
        parts = [(split_channel(name), unit) for name, _, unit in named]
        named = [(part[0], part[1], unit) for part, unit in parts if part is not None]
    by_case: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name, channel, unit in named:
        by_case[name][channel].append(unit.path)
    grouped: dict[str, tuple[Path, ...]] = {}
    for case, channels in sorted(by_case.items()):
        double = [path for paths in channels.values() if len(paths) > 1 for path in paths]
        missing = [suffix for channel, suffix in enumerate(suffixes) if channel not in channels]
        if double:
            problems.append(_ambiguous("images", case, double))
        elif missing:
            first = channels[min(channels)][0]
            why = f"case '{case}' has no {' and no '.join(missing)}"
            problems.append(
                DataError("channels are missing", where=first, why=why, fix="add them, or --allow-unmatched")
            )
        else:
            grouped[case] = tuple(channels[channel][0] for channel in sorted(channels))
    return grouped


def _are_numbered(names: Sequence[str], label_stems: set[str]) -> bool:
    """True when the names end with channel numbers that are no part of the ids."""
    parts = [split_channel(name) for name in names]
    channels: dict[str, set[int]] = defaultdict(set)
    for part in parts:
        if part is not None:
            channels[part[0]].add(part[1])
    sets = {frozenset(numbers) for numbers in channels.values()}
    whole = len(sets) == 1 and all(numbers == frozenset(range(len(numbers))) for numbers in sets)
    return bool(parts) and all(parts) and whole and not label_stems.intersection(names)


def _class_of(rest: str) -> str:
    """'kidney_left' of 'kidney_left_000': a number at the end tells instances apart."""
    head, _, tail = rest.rpartition("_")
    return head if head and len(tail) == 3 and tail.isdigit() else rest


def _label_suffixes(given: str | None) -> tuple[str, ...]:
    return LABEL_SUFFIXES if given is None else (given,)


def _label_id(stem: str, suffix: str | None) -> str | None:
    found = _without(stem, _label_suffixes(suffix))
    return stem if found is None and suffix is None else found


def _without(stem: str, suffixes: Iterable[str]) -> str | None:
    """The stem without the first suffix that it ends with; None when it has none of them."""
    for suffix in suffixes:
        if suffix == "" or (stem.lower().endswith(suffix.lower()) and len(stem) > len(suffix)):
            return stem[: len(stem) - len(suffix)]
    return None


def _odd(unit: Unit, why: str, option: str) -> DataError:
    return DataError("file of another name", where=unit.path, why=why, fix=f"change {option}, or add --allow-unmatched")


def _alone(what: str, path: Path, case: str, others: Iterable[str]) -> DataError:
    close = nearest(case, others)
    why = f"case id '{case}'" + (f", the nearest partner is '{close}'" if close else "")
    return DataError(what, where=path, why=why, fix="rename it, set the suffix options, or add --allow-unmatched")


def _ambiguous(kind: str, case: str, paths: Sequence[Path]) -> DataError:
    names = ", ".join(str(path) for path in paths[:4])
    fix = "name the folders with --images and --labels, set the suffix options, or remove one"
    return DataError(f"several {kind} of case '{case}'", where=paths[0].parent, why=names, fix=fix)
