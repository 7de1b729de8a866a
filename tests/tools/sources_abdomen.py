"""Abdominal and thoracic CT releases in small: BTCV, WORD, AMOS, SegTHOR, under their exact names and label values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.tools.datasets import write_nifti
from tests.tools.sources import AFFINE

SHAPE = (12, 11, 9)


def organs(values: Sequence[int], *, largest: int, seed: int = 0, shape: Sequence[int] = SHAPE) -> NDArray[np.uint8]:
    """A label map in which every value has a block of its own and `largest` the biggest."""
    random = np.random.default_rng(seed)
    label = np.zeros(int(np.prod(shape)), np.uint8)
    start = int(random.integers(5, 40))
    for value in random.permutation([value for value in values if value != largest]).tolist():
        label[start : start + 25] = value
        start += 30
    label[start : start + 200] = largest
    return label.reshape(shape)


def scan(label: NDArray[np.uint8], seed: int = 0) -> NDArray[np.int16]:
    """A CT of it: soft tissue, organs a little brighter."""
    random = np.random.default_rng(1000 + seed)
    return np.asarray(
        np.where(label > 0, 60 + 3 * label.astype(int), -20) + random.integers(-9, 9, label.shape), np.int16
    )


def make_btcv(root: Path, ids: Sequence[int] = (1, 35, 61), *, monai: bool = False) -> Path:
    """RawData/Training/{img,label}, RawData/Testing/img; or MONAI's imagesTr, labelsTr."""
    for number in ids:
        label = organs(range(1, 14), largest=6, seed=number)
        test = 61 <= number <= 80
        half = "Testing" if test else "Training"
        images, labels = ("imagesTs" if test else "imagesTr", "labelsTr") if monai else (
            f"RawData/{half}/img",
            f"RawData/{half}/label",
        )  # fmt: skip
        write_nifti(root / images / f"img{number:04d}.nii.gz", scan(label, number), AFFINE)
        if not test:
            write_nifti(root / labels / f"label{number:04d}.nii.gz", label, AFFINE)
    return root


def make_word(root: Path, ids: Mapping[str, Sequence[int]] | None = None) -> Path:
    """WORD-V0.1.0 with imagesTr, imagesVal, imagesTs; the test labels are there too."""
    for side, numbers in (ids or {"Tr": (2, 3), "Val": (1,), "Ts": (14,)}).items():
        for number in numbers:
            label = organs(range(1, 17), largest=1, seed=number)
            write_nifti(root / f"images{side}" / f"word_{number:04d}.nii.gz", scan(label, number), AFFINE)
            write_nifti(root / f"labels{side}" / f"word_{number:04d}.nii.gz", label.astype(np.uint16), AFFINE)
    return root


def make_amos(root: Path) -> Path:
    """amos22 with CT and MR, a dataset.json with 'licence' and 'arota', __MACOSX beside it."""
    content: dict[str, object] = {
        "licence": "CC-BY-SA 4.0",
        "labels": {"0": "background", "1": "spleen", "6": "liver", "8": "arota"},
        "modality": {"0": "CT"},
    }
    for key, side, numbers in (("training", "Tr", (1, 4, 507)), ("validation", "Va", (8, 544)), ("test", "Ts", (2,))):
        entries = []
        for number in numbers:
            label = organs(range(1, 16), largest=6, seed=number)
            name = f"amos_{number:04d}.nii.gz"
            write_nifti(root / f"images{side}" / name, scan(label, number), AFFINE)
            if side != "Ts":
                write_nifti(root / f"labels{side}" / name, label, AFFINE)
            junk = root / "__MACOSX" / f"images{side}" / f"._{name}"
            junk.parent.mkdir(parents=True, exist_ok=True)
            junk.write_bytes(b"\0\5\26\7")
            entries.append({"image": f"./images{side}/{name}", "label": f"./labels{side}/{name}"})
        content[key] = entries
    (root / "labelsTs").mkdir()
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def make_segthor(root: Path) -> Path:
    """train/Patient_01/{Patient_01,GT}.nii.gz, one patient uncompressed, a GT2; test/Patient_41.nii.gz."""
    for number in (1, 27, 40):
        label = organs((1, 2, 3, 4), largest=2, seed=number)
        folder, ending = root / "train" / f"Patient_{number:02d}", ".nii" if number == 40 else ".nii.gz"
        write_nifti(folder / f"Patient_{number:02d}{ending}", scan(label, number), AFFINE)
        write_nifti(folder / f"GT{ending}", label, AFFINE)
    write_nifti(root / "train" / "Patient_27" / "GT2.nii.gz", organs((1, 2, 3, 4), largest=2, seed=99), AFFINE)
    write_nifti(root / "test" / "Patient_41.nii.gz", scan(organs((1,), largest=2, seed=41)), AFFINE)
    return root
