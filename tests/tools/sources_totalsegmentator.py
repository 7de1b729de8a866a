"""TotalSegmentator's subjects, and the label maps that the program writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.tools.datasets import phantom

SHAPE = (13, 11, 9)
SHEARED = np.array([[-1.5, 0.004, 0, 30], [0, 1.5, 0.003, -20], [0, 0, 1.5, 7], [0, 0, 0, 1.0]])
"""Direction cosines a few thousandths from orthonormal, as in some 136 of the CT scans: SimpleITK refuses them."""


def scan(seed: int) -> np.ndarray:
    return phantom(SHAPE, classes=3, seed=seed)[0][0].astype(np.int16)


def truth(seed: int) -> np.ndarray:
    return phantom(SHAPE, classes=3, seed=seed)[1]


def write_sform(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """A NIfTI that is placed by its sform alone: no qform can say what is not a rotation."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, 2)
    image.set_qform(None, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def add_subject(
    root: Path,
    case: str,
    classes: Mapping[str, np.ndarray],
    *,
    modality: str = "ct",
    seed: int = 0,
    affine: np.ndarray = SHEARED,
) -> Path:
    """A subject with one mask per class."""
    folder = root / case
    write_sform(folder / f"{modality}.nii.gz", scan(seed), affine)
    (folder / "segmentations").mkdir(exist_ok=True)
    for name, mask in classes.items():
        write_sform(folder / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8), affine)
    return folder


def organs(seed: int, names: Sequence[str] = ("spleen", "liver", "aorta")) -> dict[str, np.ndarray]:
    """The phantom's three objects as masks of those classes, an empty mask for every further one."""
    label = truth(seed)
    return {name: label == value for value, name in enumerate(names, start=1)}


def write_meta(root: Path, parts: Mapping[str, str]) -> None:
    """meta.csv as published: semicolons, a byte order mark, more columns than are needed."""
    lines = ["image_id;age;gender;institute;study_type;split"]
    lines += [f"{case};60;m;A;ct thorax;{part}" for case, part in parts.items()]
    root.mkdir(parents=True, exist_ok=True)
    (root / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def make_ct(root: Path) -> Path:
    """Four subjects: two train, one val, one test."""
    parts = {"s0003": "train", "s0010": "train", "s0011": "val", "s0012": "test"}
    for seed, case in enumerate(parts):
        add_subject(root, case, organs(seed), seed=seed)
    write_meta(root, parts)
    return root


def write_label_map(path: Path, label: np.ndarray, affine: np.ndarray, names: Mapping[int, str]) -> None:
    """A label map whose header names its classes in a Caret extension, as the program writes it."""
    image = nib.Nifti1Image(label.astype(np.uint8), affine)
    rows = "\n".join(
        f'<Label Key="{key}" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>'
        for key, name in names.items()
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> <VolumeInformation Index="0"> '
        f"<LabelTable>\n{rows}\n</LabelTable> </VolumeInformation></CaretExtension>"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
