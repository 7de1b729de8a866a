"""A case that is one image and one label map in files of their own, whose headers may not agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import GeometryError
from medmoe_cli.core.data.converters.files import place_label
from medmoe_cli.core.data.converters.source import LoadedCase
from medmoe_cli.core.data.converters.turned import corner_voxels
from medmoe_cli.core.data.grids import Grid, compare_grids, has_space
from medmoe_cli.core.imaging.image import Image, Labels
from medmoe_cli.core.imaging.read import read_image, read_labels
from medmoe_cli.core.imaging.resample import resample_labels

RESAMPLED = "label on another grid than its image, resampled onto the image's (the largest share wins)"
_LOST_SHARE = 0.05
"""A class that loses or gains more of its volume was not where the label's header says."""


def load_pair(image: Path, label: Path | None) -> LoadedCase:
    """Read an image and its label map, wherever that lies.

    Raises:
        MedMoEError: a file is damaged, or the label's place is in doubt.
    """
    scan = read_image(image)
    if label is None:
        return LoadedCase(images=(scan,), label=None, notes=scan.header.notes)
    notes = list(scan.header.notes)
    data = settled(scan, read_labels(label), notes)
    return LoadedCase(images=(scan,), label=data, notes=tuple(notes))


def settled(image: Image, label: Labels, notes: list[str]) -> NDArray[Any]:
    """The label on the image's grid, with a note where its header is another.

    Grids of one shape whose headers put them apart can be read in two ways (voxel for voxel, or as the headers say), so
    they are refused. Grids of different shapes are resampled, unless that changes a class's volume or leaves a part of
    the image unlabelled.

    Raises:
        GeometryError: the label's place is in doubt.
    """
    verdict = compare_grids(Grid(geometry=image.geometry, header=image.header), _grid(label))
    spaces = has_space(image.header) and has_space(label.header)
    if verdict.kind != "different" or image.geometry.shape == label.geometry.shape or not spaces:
        return place_label(image, label, notes)
    moved = resample_labels(label.data, label.geometry, image.geometry)
    before, after = _volumes_mm3(label.data, label), _volumes_mm3(moved, image)
    lost = [value for value, volume in before.items() if abs(after.get(value, 0.0) - volume) > _LOST_SHARE * volume]
    if lost:
        changes = ", ".join(f"value {v}: {before[v]:.4g} mm3 become {after.get(v, 0.0):.4g}" for v in lost[:4])
        raise GeometryError(
            "label on another grid than its image, and resampling would lose some of it",
            where=label.header.path,
            why=f"{verdict}; {changes}",
            fix="compare the two headers and repair the wrong one, or leave the case out",
        )
    if _falls_short(label, image):
        raise GeometryError(
            "label that does not reach over its image",
            where=label.header.path,
            why=f"{verdict}; slices of the image lie outside the label's grid, where nobody can tell what is there",
            fix="look for the whole label, or leave the case out",
        )
    notes.append(RESAMPLED)
    return moved


def _falls_short(label: Labels, image: Image) -> bool:
    """Voxels at a corner of the image lie outside the label's grid, by more than a quarter of its voxels."""
    step = np.linalg.inv(label.geometry.affine) @ image.geometry.affine
    places = corner_voxels(image.geometry) @ step[:3, :3].T + step[:3, 3]
    return bool((places < -0.75).any() or (places > np.array(label.geometry.shape) - 0.25).any())


def _grid(label: Labels) -> Grid:
    return Grid(geometry=label.geometry, header=label.header)


def _volumes_mm3(values: NDArray[Any], on: Image | Labels) -> dict[int, float]:
    """Volume of every foreground value."""
    voxel = float(np.prod(on.geometry.spacing_mm))
    found, counts = np.unique(values, return_counts=True)
    return {int(v): int(c) * voxel for v, c in zip(found.tolist(), counts.tolist(), strict=True) if v}
