"""A SAM-Med3D collection: a folder per class and source dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.tools.datasets import phantom, write_nifti
from tests.tools.sources import AFFINE

SHAPE = (12, 11, 9)


def truth(case: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    images, label = phantom(SHAPE, classes=3, seed=case)
    return images[0].astype(np.int16), label


def add(
    root: Path, name: str, dataset: str, case: str, image: NDArray[np.generic], mask: NDArray[np.generic],
    *, split: str = "Tr", affine: NDArray[np.float64] = AFFINE,
) -> None:  # fmt: skip
    folder = root / name / dataset
    write_nifti(folder / f"images{split}" / f"{case}.nii.gz", image, affine)
    write_nifti(folder / f"labels{split}" / f"{case}.nii.gz", mask, affine)


def make_collection(root: Path) -> Path:
    """Two CT sources: WORD with three classes, BTCV with two; a case of each for validation, and junk."""
    classes = {"spleen": 3, "adrenal": 1, "liver": 2}
    train, validation = root / "train", root / "validation"
    for number, case in enumerate(["word_0025", "word_0030", "word_0041"]):
        image, label = truth(number)
        for name, value in classes.items():
            if (case, name) == ("word_0030", "adrenal"):
                continue  # below 10 mm3: never written
            half, split = (validation, "Val") if case == "word_0041" else (train, "Tr")
            add(half, name, "ct_WORD", case, image, (label == value).astype(np.uint8), split=split)
    image, label = truth(7)
    for name in ("liver", "spleen"):
        add(train, name, "ct_BTCV", "img0001", image, (label == classes[name]).astype(np.float32))
    (train / "liver" / "ct_WORD" / "imagesTr" / "._word_0025.nii.gz").write_bytes(b"\0\5\26\7")
    (train / ".cache" / "ct_X" / "labelsTr").mkdir(parents=True)
    return root
