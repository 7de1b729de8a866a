"""What can be wrong with the values of one label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.finding import Finding, error, warning
from medmoe_cli.core.data.grids import Grid
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.pictures import read_picture
from medmoe_cli.core.imaging.read import LABEL_TOLERANCE, read_image

_MANY_VALUES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFacts:
    """A label map: its grid, its values, and what is wrong with them."""

    grid: Grid
    voxels: Mapping[int, int]
    findings: tuple[Finding, ...]


def examine_label(path: Path, file: str, case: str, labels: Mapping[str, int], image: Path | None) -> LabelFacts:
    """Look at the values of a label map.

    Args:
        path: the label file.
        file: the same for findings.
        case: its case.
        labels: class name to declared value.
        image: the case's first image, read only when the label looks like one.

    Raises:
        MedMoEError: the file cannot be read.
    """
    label = _read(path)
    grid = Grid(geometry=label.geometry, header=label.header)
    if label.num_channels > 1:
        message = f"{label.num_channels} volumes or colours in a label file"
        fix = "save one map with a value per class"
        return LabelFacts(grid=grid, voxels={}, findings=(error("label-4d", message, fix=fix, case=case, file=file),))
    values, counts = np.unique(label.data[0], return_counts=True)
    whole = np.rint(values)
    fractions = values[np.abs(values - whole) > LABEL_TOLERANCE] if values.dtype.kind == "f" else values[:0]
    declared = {0, *labels.values()}
    unexpected = [int(value) for value in whole.tolist() if int(value) not in declared] if not len(fractions) else []
    odd = len(fractions) > 0 or bool(unexpected)
    if odd and len(values) > max(_MANY_VALUES, 2 * len(declared)) and image is not None and _is_label(image, declared):
        message = f"image and label are swapped: this label has {len(values)} values, the image is a label map"
        fix = "exchange the two files"
        return LabelFacts(
            grid=grid, voxels={}, findings=(error("image-label-swapped", message, fix=fix, case=case, file=file),)
        )
    found: list[Finding] = []
    if len(fractions):
        message = f"{len(fractions)} values that are no whole numbers, such as {float(fractions[0]):.4g}"
        fix = "a probability map or a resampled label: threshold or make it anew"
        found.append(error("label-float", message, fix=fix, case=case, file=file))
    if unexpected:
        per_value = dict(zip(whole.tolist(), counts.tolist(), strict=True))
        seen = some((f"{value} ({per_value[value]} voxels)" for value in unexpected), 6)
        message = f"values that dataset.json does not declare: {seen}"
        fix = "declare them under labels, or correct the label map"
        found.append(error("label-values", message, fix=fix, case=case, file=file))
    if not len(fractions) and not values.any():
        message = "no foreground at all"
        found.append(
            warning("label-empty", message, fix="keep it only if nothing is to be seen there", case=case, file=file)
        )
    voxels = {} if len(fractions) else {int(v): int(n) for v, n in zip(whole.tolist(), counts.tolist(), strict=True)}
    return LabelFacts(grid=grid, voxels=voxels, findings=tuple(found))


def _read(path: Path) -> Image:
    """The label as it is; palette pictures by index, as `read_labels` takes them."""
    if path.name.lower().endswith(".png"):
        return read_picture(path, kind="png", as_label=True)
    return read_image(path)


def _is_label(path: Path, declared: set[int]) -> bool:
    try:
        values: NDArray[Any] = np.unique(read_image(path).data)
    except MedMoEError:
        return False
    return len(values) > 1 and all(float(value).is_integer() and int(value) in declared for value in values.tolist())
