"""A look at a few label files before a release is converted: are its values those of the release at all?

Copies with other values keep the names of the files. What every order of organs gets right or wrong is their size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, MedMoEError
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.read import read_labels

_LOOKED_AT = 3
Item = TypeVar("Item")


def organ_sizes(items: Sequence[Item], read: Callable[[Item], NDArray[Any]]) -> list[dict[int, int]]:
    """Voxels per foreground value in up to three items, spread over all; damaged ones are left for the conversion."""
    step = max(1, len(items) // _LOOKED_AT)
    found: list[dict[int, int]] = []
    for item in items[::step][:_LOOKED_AT]:
        try:
            values, counts = np.unique(read(item), return_counts=True)
        except MedMoEError:
            continue
        sizes = {int(v): int(c) for v, c in zip(np.rint(values).tolist(), counts.tolist(), strict=True) if v > 0}
        if sizes:
            found.append(sizes)
    return found


def label_voxels(path: Path) -> NDArray[Any]:
    """The voxels of a label file."""
    return np.asarray(read_labels(path).data)


def total(sizes: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """Voxels per value over all items."""
    return {value: sum(one.get(value, 0) for one in sizes) for value in sorted({v for one in sizes for v in one})}


def require_largest(sizes: Sequence[Mapping[int, int]], value: int, name: str, *, where: Path, fix: str) -> None:
    """Refuse labels in which another value is larger than the organ that is the largest in everybody.

    Raises:
        DataError: it is.
    """
    voxels = total(sizes)
    if not voxels:
        return
    largest = max(voxels, key=lambda one: voxels[one])
    if largest != value:
        why = f"{name} is {value} and the largest organ, but {largest} has {voxels[largest]} voxels, {value} has "
        why += f"{voxels.get(value, 0)} (in {len(sizes)} labels)"
        raise DataError("labels of another order", where=where, why=why, fix=fix)


def require_many(sizes: Sequence[Mapping[int, int]], classes: Mapping[str, int], *, where: Path, fix: str) -> None:
    """Refuse labels that hold one value where the release has many: another release's binary masks.

    Raises:
        DataError: they do.
    """
    found = sorted(total(sizes))
    if found and len(found) == 1 < len(classes):
        why = f"only {some(map(str, found))} in {len(sizes)} labels, {len(classes)} classes are expected"
        raise DataError("labels of another release", where=where, why=why, fix=fix)
