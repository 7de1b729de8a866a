"""The bare arrays of TransUNet's Synapse files: npz slices and h5 volumes, checked and stacked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.payload import require_finite
from medmoe_cli.core.imaging.read import as_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrays:
    """One case: image float32 and label, both (slices, rows, columns) as the files have them."""

    image_DAB: NDArray[np.float32]
    label_DAB: NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where a case comes from: one h5 volume, or npz slices by number."""

    volume: Path | None = None
    slices: Mapping[int, Path] | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.volume,) if self.volume is not None else tuple((self.slices or {}).values())


def read_arrays(files: Files) -> Arrays:
    """Read a case whole.

    Raises:
        DataError: a file is damaged, a slice is missing, or sizes differ.
    """
    if files.volume is not None:
        image, label = _h5(files.volume, "image", "label")
        return _checked(files.volume, image, label)
    slices = files.slices or {}
    gaps = sorted(set(range(max(slices) + 1)) - set(slices))
    first = slices[min(slices)]
    if gaps:
        raise DataError("slices are missing", where=first, why=f"numbers {gaps}", fix="copy them, or remove the others")
    pairs = [_npz(slices[number], "image", "label") for number in sorted(slices)]
    shapes = {array.shape for pair in pairs for array in pair}
    if len(shapes) > 1:
        raise DataError("slices of different sizes", where=first, why=str(sorted(shapes)), fix="copy them again")
    return _checked(first, np.stack([image for image, _ in pairs]), np.stack([label for _, label in pairs]))


def read_label(files: Files) -> NDArray[Any]:
    """The label values of a case, in no particular order: for a look at how often each is there.

    Raises:
        DataError: a file is damaged.
    """
    if files.volume is not None:
        return as_labels(_h5(files.volume, "label")[0], files.volume).ravel()
    slices = files.slices or {}
    return np.concatenate([as_labels(_npz(path, "label")[0], path).ravel() for path in slices.values()])


def _checked(path: Path, image: NDArray[Any], label: NDArray[Any]) -> Arrays:
    if image.ndim != 3 or image.shape != label.shape or image.dtype.kind not in "fiu" or label.dtype.kind not in "fiu":
        why = f"image {image.shape} {image.dtype}, label {label.shape} {label.dtype}"
        raise DataError("arrays that do not fit", where=path, why=why, fix="leave the case out")
    for array in (image, label):
        require_finite(array.ravel(), array.shape[::-1], path)
    return Arrays(image_DAB=image.astype(np.float32), label_DAB=as_labels(label, path))


def _npz(path: Path, *keys: str) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            if missing:
                why = f"it has {sorted(archive.files)}"
                raise DataError(f"no array '{missing[0]}'", where=path, why=why, fix="remove it")
            return [np.asarray(archive[key]) for key in keys]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("damaged npz file", where=path, why=str(error), fix="copy it again") from error


def _h5(path: Path, *keys: str) -> list[NDArray[Any]]:
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in keys if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise DataError(f"no array '{missing[0]}'", where=path, why=f"it has {sorted(file)}", fix="remove it")
            return [np.asarray(file[key]) for key in keys]
    except (OSError, RuntimeError, TypeError) as error:
        raise DataError("damaged h5 file", where=path, why=str(error), fix="copy it again") from error
