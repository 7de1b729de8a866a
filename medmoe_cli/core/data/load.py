"""The voxels of a case: its channels as one image, and its label map on the same grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image, read_labels


def load_image(paths: Sequence[Path]) -> Image:
    """Read the files of a case's channels as one image, with the first file's geometry and header.

    Raises:
        DataError: a file cannot be read.
        GeometryError: a channel lies on another grid.
    """
    first = read_image(paths[0])
    if len(paths) == 1:
        return first
    parts = [first.data]
    for path in paths[1:]:
        image = read_image(path)
        differences = first.geometry.differences(image.geometry)
        if differences:
            raise GeometryError(
                "channel on another grid",
                where=path,
                why=f"against {paths[0].name}: {'; '.join(differences)}",
                fix=f"resample it to the grid of {paths[0].name}",
            )
        parts.append(image.data)
    return Image(data=np.concatenate(parts), geometry=first.geometry, header=first.header)


def load_label(path: Path, image: Image) -> NDArray[Any]:
    """Read the label map (X, Y, Z) of an image.

    Raises:
        DataError: it cannot be read.
        GeometryError: it lies on another grid.
    """
    labels = read_labels(path)
    differences = image.geometry.differences(labels.geometry)
    if differences:
        raise GeometryError(
            "label on another grid",
            where=path,
            why=f"against {image.header.path.name}: {'; '.join(differences)}",
            fix="medmoe check DATA lists all such cases",
        )
    return labels.data


def number_labels(label: NDArray[Any], numbers: Mapping[int, int], path: Path) -> NDArray[Any]:
    """Give a file's label values the plan's numbers (background stays 0).

    Args:
        label: the file's values.
        numbers: value in the files to value in the plan.
        path: the file, for the error.

    Returns:
        uint8, or uint16 for more than 255 classes.

    Raises:
        DataError: values that dataset.json does not name.
    """
    found = np.flatnonzero(np.bincount(label.ravel())) if label.dtype.itemsize <= 2 else np.unique(label)
    unknown = [int(value) for value in found if value != 0 and int(value) not in numbers]
    if unknown:
        raise DataError(
            "unexpected label values",
            where=path,
            why=f"{', '.join(map(str, unknown[:8]))}; dataset.json names {', '.join(map(str, sorted(numbers)))}",
            fix="name them in dataset.json, or remove them from the file",
        )
    dtype = np.uint8 if max(numbers.values(), default=0) <= np.iinfo(np.uint8).max else np.uint16
    out = np.zeros(label.shape, dtype)
    for value in found:
        if value != 0:
            out[label == value] = numbers[int(value)]
    return out
