"""Loading a case that is image files and a label file: the common part of most converters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.data.converters.source import LoadedCase
from medmoe_cli.core.data.grids import Grid, compare_grids, has_space
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image, Labels
from medmoe_cli.core.imaging.read import read_image, read_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How files become arrays.

    Attributes:
        colour: pictures keep three channels (True), become grey (False), or channels stay as they are (None).
        threshold: labels are binary, 1 above this value.
        spacing_mm: for files that carry none.
    """

    colour: bool | None = None
    threshold: int | None = None
    spacing_mm: tuple[float, float, float] | None = None


def load_files(images: tuple[Path, ...], label: Path | None, reading: Reading) -> LoadedCase:
    """Read one case.

    Raises:
        MedMoEError: a file is damaged, or the grids do not agree.
    """
    notes: list[str] = []
    loaded = tuple(_image(path, reading) for path in images)
    for other in loaded[1:]:
        verdict = compare_grids(_grid(loaded[0]), _grid(other))
        if verdict.kind == "different":
            raise GeometryError(
                "the channels lie on different grids",
                where=other.header.path,
                why=str(verdict),
                fix="resample them to one grid, or leave this channel out",
            )
    if label is None:
        return LoadedCase(images=loaded, label=None)
    found = read_labels(label)
    array = place_label(loaded[0], found, notes)
    if reading.threshold is not None:
        array = (array > reading.threshold).astype(np.uint8)
    return LoadedCase(images=loaded, label=array, notes=tuple(notes))


def place_label(image: Image, label: Labels, notes: list[str]) -> NDArray[Any]:
    """The label's voxels, once they are known to lie on the image's grid.

    Raises:
        GeometryError: they do not.
    """
    verdict = compare_grids(_grid(image), _grid(label))
    if verdict.kind == "different":
        raise GeometryError(
            "label on another grid than its image",
            where=label.header.path,
            why=str(verdict),
            fix="resample the label to the image's grid, or leave the case out",
        )
    if verdict.kind == "near":
        notes.append("label header differs from the image's by rounding; the image's is used")
    return label.data


def _grid(image: Image | Labels) -> Grid:
    return Grid(geometry=image.geometry, header=image.header)


def _image(path: Path, reading: Reading) -> Image:
    image = read_image(path)
    if reading.colour is not None:
        image = replace(image, data=_as_colour(image.data) if reading.colour else as_grey(image))
    if reading.spacing_mm is not None:
        if has_space(image.header):
            raise DataError(
                "--spacing for files that carry their own",
                where=path,
                why=f"its voxel size is {'x'.join(f'{side:.4g}' for side in image.geometry.spacing_mm)} mm",
                fix="leave --spacing out",
            )
        image = replace(image, geometry=Geometry.plain(image.geometry.shape, reading.spacing_mm))
    return image


def as_grey(image: Image) -> NDArray[Any]:
    """One channel of a picture whose channels are equal.

    Raises:
        DataError: they are not.
    """
    if any((channel != image.data[0]).any() for channel in image.data[1:]):
        raise DataError("a colour picture among grey ones", where=image.header.path, fix="convert it to grey")
    return image.data[:1]


def _as_colour(data: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(data, 3, axis=0) if data.shape[0] == 1 else data
