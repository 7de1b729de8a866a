"""Small phantom datasets in the nnU-Net v2 layout, written without the project's own readers and writers.

Every case is an ellipsoid body with one ellipsoid per class inside, at places and sizes drawn from the seed, so that
no two cases are equal and each class is present in each case.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

NAMES = ("organ", "lesion", "vessel", "cyst", "bone", "node")


def make_dataset(
    root: Path,
    *,
    cases: int = 4,
    shape: Sequence[int] | None = None,
    classes: int = 2,
    dims: int = 3,
    seed: int = 0,
    channels: int = 1,
    colour: bool = False,
    tests: int = 0,
    cases_per_patient: int = 1,
    spacing_mm: Sequence[float] = (1.0, 1.0, 2.0),
    affine: NDArray[np.float64] | None = None,
    channel_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    modality: str = "phantom",
    ending: str | None = None,
) -> Path:
    """Write a clean dataset into `root` and return it.

    Args:
        root: the dataset folder (made; its name is the dataset's name).
        cases: training cases.
        shape: voxels along x, y, z (3D) or columns, rows (2D); default 24x20x12 and 48x40.
        classes: number of foreground classes, values 1..classes.
        dims: 3 for `.nii.gz` volumes, 2 for 8-bit `.png` pictures (unless `ending` says `.nii.gz`).
        channels: images per case (`_0000`, `_0001`, ...); 2D pictures may be `colour` instead.
        tests: cases in imagesTs, with labels in labelsTs.
        cases_per_patient: more than one writes a `patients` key.
        spacing_mm: along x, y, z; the grid is LPS-directed unless `affine` is given.
    """
    ending = ending or (".png" if dims == 2 else ".nii.gz")
    size = tuple(shape) if shape is not None else ((48, 40) if dims == 2 else (24, 20, 12))
    size_3d = (*size, 1) if len(size) == 2 else size
    if affine is None:
        affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    names = tuple(class_names) if class_names is not None else NAMES[:classes]
    total = cases + tests
    ids = [f"case_{number:03d}" for number in range(total)]
    for folder in ("imagesTr", "labelsTr") + (("imagesTs", "labelsTs") if tests else ()):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(ids):
        split = "Tr" if number < cases else "Ts"
        images, label = phantom(size_3d, classes=len(names), channels=channels, seed=seed * 1000 + number)
        if ending == ".png":
            write_picture(root / f"labels{split}" / f"{case}.png", label[:, :, 0])
            for channel, image in enumerate(images):
                grey = np.clip(image[:, :, 0], 0, 255).astype(np.uint8)
                picture = np.stack([grey, 255 - grey, grey // 2], axis=-1) if colour else grey
                write_picture(root / f"images{split}" / f"{case}_{channel:04d}.png", picture)
        else:
            write_nifti(root / f"labels{split}" / f"{case}{ending}", label, affine)
            for channel, image in enumerate(images):
                write_nifti(root / f"images{split}" / f"{case}_{channel:04d}{ending}", image.astype(np.int16), affine)
    given = tuple(channel_names) if channel_names is not None else None
    names_of_channels = given or (("R", "G", "B") if colour else tuple(f"channel{k}" for k in range(channels)))
    content = {
        "channel_names": {str(index): name for index, name in enumerate(names_of_channels)},
        "labels": {"background": 0, **{name: value for value, name in enumerate(names, start=1)}},
        "numTraining": cases,
        "file_ending": ending,
        "modality": modality,
        "dimensionality": dims,
    }
    if cases_per_patient > 1:
        content["patients"] = {case: f"patient_{n // cases_per_patient:03d}" for n, case in enumerate(ids)}
    (root / "dataset.json").write_text(json.dumps(content, indent=2))
    return root


def phantom(
    shape: Sequence[int], *, classes: int = 2, channels: int = 1, seed: int = 0
) -> tuple[list[NDArray[np.float64]], NDArray[np.uint8]]:
    """Images (one per channel) and label map, arrays in x, y, z order; intensities about 0..255 with noise."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"))
    flat = [axis for axis, n in enumerate(shape) if n == 1]

    def ellipsoid(centre: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        distance = (grid - centre[:, None, None, None]) / radii[:, None, None, None]
        distance[flat] = 0
        return np.asarray((distance**2).sum(axis=0) <= 1)

    body = ellipsoid(np.full(3, 0.5), np.full(3, 0.46))
    label = np.zeros(shape, np.uint8)
    start = random.uniform(0, 2 * np.pi)
    for value in range(1, classes + 1):
        angle = start + 2 * np.pi * value / classes
        reach = 0.22 if classes > 1 else 0.05
        centre = np.array([0.5 + reach * np.cos(angle), 0.5 + reach * np.sin(angle), 0.5 + random.uniform(-0.08, 0.08)])
        radii = random.uniform(0.12, 0.17, size=3) * (1 if classes <= 3 else 0.7)
        label[ellipsoid(centre, radii)] = value
    images = []
    for channel in range(channels):
        image = np.where(body, 80.0 + 10 * channel, 10.0)
        for value in range(1, classes + 1):
            image[label == value] = 110.0 + 30 * ((value + channel) % max(classes, 2))
        images.append(image + random.normal(0, 4, size=shape))
    return images, label


def write_nifti(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """A NIfTI with both codes 1 and millimetres."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_picture(path: Path, data: NDArray[np.uint8]) -> None:
    """A PNG from (columns, rows[, 3]); pictures are stored rows first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.ascontiguousarray(np.swapaxes(data, 0, 1))).save(path)
