"""One mask picture per DICOM slice: which picture belongs to which slice, and the label volume they make.

CHAOS pairs by sorted file names, not by the positions that the DICOM headers give (comment in emrekavur's
CHAOSmetrics.py); its file order is the reverse of the position order. So each picture is tied to a slice's file first,
and carried along when the slices are put in the order of their positions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.imaging.dicom import slice_names
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_labels

BY_STEM = "masks paired with slices by name"
BY_ORDER = "masks paired with slices by the order of their names"
_CLEARLY_BETTER = 0.5
"""How much smaller the spread of intensities must be in reverse order to say that the order is wrong."""


def read_slice_masks(dicom: Path, ground: Path, image: Image, notes: list[str]) -> NDArray[Any]:
    """The label volume (X, Y, Z) of a DICOM folder, in the order of the image's slices.

    Args:
        dicom: the folder that `image` was read from.
        ground: the folder of PNG masks.
        image: what `read_dicom` gave.
        notes: how the masks were paired.

    Raises:
        DataError: their number or size is not that of the slices, or names do not tell the order.
    """
    names = slice_names(dicom)
    partners = pair_slices(names, [path for path in files_in(ground) if path.suffix.lower() == ".png"], ground)
    by_stem = all(partners[name].stem == Path(name).stem for name in names)
    notes.append(BY_STEM if by_stem else BY_ORDER)
    columns, rows, _ = image.geometry.shape
    slices: list[NDArray[Any]] = []
    for name in names:
        mask = read_labels(partners[name]).data[..., 0]
        if mask.shape != (columns, rows):
            why = f"{mask.shape[0]}x{mask.shape[1]} against {columns}x{rows} of {name}"
            raise DataError("mask of another size than its slice", where=partners[name], why=why, fix="leave it out")
        slices.append(mask)
    return np.stack(slices, axis=-1)


def pair_slices(names: Sequence[str], masks: Sequence[Path], ground: Path) -> dict[str, Path]:
    """Slice file to mask: by equal stems where every mask has them, else the k-th name with the k-th name.

    Raises:
        DataError: other numbers of slices and masks, or names that sort in two ways.
    """
    if len(names) != len(masks):
        why = f"{len(masks)} masks for {len(names)} slices"
        raise DataError("masks and slices that do not pair up", where=ground, why=why, fix="copy the release again")
    by_stem = {Path(name).stem: name for name in names}
    if all(mask.stem in by_stem for mask in masks) and len({mask.stem for mask in masks}) == len(names):
        return {by_stem[mask.stem]: mask for mask in masks}
    ordered = sorted(masks, key=lambda path: path.name)
    pairs = dict(zip(sorted(names), ordered, strict=True))
    natural = dict(zip(sorted(names, key=_natural), sorted(masks, key=lambda path: _natural(path.name)), strict=True))
    if pairs != natural:
        first = next(name for name in sorted(names) if pairs[name] != natural[name])
        why = f"{first} goes with {pairs[first].name} by its letters, with {natural[first].name} by its number"
        fix = "restore the release's names (numbers of one width), or leave the case out"
        raise DataError("names that sort in two ways", where=ground, why=why, fix=fix)
    return pairs


def require_order(image: Image, label: NDArray[Any], ground: Path, notes: list[str]) -> None:
    """Refuse masks that fit the slices much better from the last to the first: the pairing must be wrong.

    Pairs of one name stay as they are named: a note says what the intensities say.

    Raises:
        DataError: they do, and nothing but the order of names pairs them.
    """
    volume = image.data[0]
    given, reverse = _spread(volume, label), _spread(volume, label[..., ::-1])
    if reverse < _CLEARLY_BETTER * given and BY_STEM in notes:
        notes.append("masks named as their slices fit the intensities better in reverse order: look at them")
    elif reverse < _CLEARLY_BETTER * given:
        why = f"intensities within the masks spread by {given:.4g}, in reverse order by {reverse:.4g}"
        raise DataError("masks in the reverse order of their slices", where=ground, why=why, fix="leave the case out")


def codes(label: NDArray[Any], ranges: Sequence[tuple[int, int, int]], ground: Path) -> tuple[NDArray[np.uint8], bool]:
    """Grey levels as the code of the range that each lies in.

    Args:
        label: grey levels.
        ranges: lowest and highest grey level (both included) and the code that they stand for.
        ground: for the message.

    Returns:
        The codes, and whether a level was not its code already.

    Raises:
        DataError: a level lies in no range.
    """
    levels = [int(level) for level in np.unique(label).tolist()]
    table = {0: 0, **{level: code for low, high, code in ranges for level in levels if low <= level <= high}}
    unknown = [level for level in levels if level not in table]
    if unknown:
        listed = ", ".join(f"{low} to {high}" for low, high, _ in ranges)
        why = f"{some(map(str, unknown), 8)}; expected are 0 and {listed}"
        raise DataError("grey levels of no organ", where=ground, why=why, fix="restore the release's masks")
    lookup = np.array([table[level] for level in levels], np.uint8)
    changed = any(table[level] != level for level in levels)
    return lookup[np.searchsorted(levels, label)], changed


def _spread(volume: NDArray[Any], label: NDArray[Any]) -> float:
    """Standard deviation of intensities around the mean of their class."""
    total, count = 0.0, 0
    for value in np.unique(label).tolist():
        if value:
            inside = volume[label == value].astype(np.float64)
            total += float(((inside - inside.mean()) ** 2).sum())
            count += inside.size
    return float(np.sqrt(total / count)) if count else 0.0


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Numbers in a name count as numbers."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
