"""CHAOS in small: DICOM slices whose file order is not that of their positions, and one mask picture per slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from tests.tools.datasets import phantom
from tests.tools.dicoms import slice_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
GREYS = (0, 63, 126, 189, 252)
SLICES = 7
SPACING = (0.7265625, 2.0)


def truth(seed: int, classes: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image and label (X, Y, Z), slices from the feet up."""
    images, label = phantom((14, 12, SLICES), classes=classes, seed=seed)
    return (10 * images[0]).astype(np.int16), label


def write_series(
    folder: Path, image: NDArray[np.int16], names: Sequence[str], *, modality: str, intercept: float, uid: str
) -> None:
    """One file per name; the k-th name is the k-th slice from the head down."""
    folder.mkdir(parents=True)
    for place, name in enumerate(names):
        index = image.shape[2] - 1 - place
        pixels = np.ascontiguousarray((image[:, :, index] - int(intercept)).T).astype(np.int16)
        position = np.array([-100.0, -90.0, 1536.5 + SPACING[1] * index])
        dataset = slice_of(
            pixels, position, orientation=AXIAL, series=uid, intercept=intercept, spacing=(SPACING[0], SPACING[0])
        )
        dataset.Modality, dataset.SliceThickness = modality, SPACING[1]
        dataset.save_as(folder / name, enforce_file_format=True)


def write_masks(folder: Path, label: NDArray[np.uint8], names: Sequence[str], *, one_bit: bool = False) -> None:
    """The k-th name is the mask of the k-th slice from the head down."""
    folder.mkdir(parents=True)
    for place, name in enumerate(names):
        rows_first = label[:, :, label.shape[2] - 1 - place].T
        picture = Picture.fromarray(
            np.ascontiguousarray(rows_first).astype(bool) if one_bit else np.array(GREYS, np.uint8)[rows_first]
        )
        picture.save(folder / name)


def make_chaos(
    root: Path,
    *,
    ids: Sequence[int] = (1, 10),
    test_ids: Sequence[int] = (4,),
    mr_mask: Callable[[str], str] = lambda stem: f"{stem}.png",
) -> Path:
    """Train_Sets and Test_Sets with T1DUAL, T2SPIR and CT; `mr_mask` names the masks of MR from the slices' stems."""
    for half, numbers in (("Train_Sets", ids), ("Test_Sets", test_ids)):
        for number in numbers:
            mr, ct = root / half / "MR" / str(number), root / half / "CT" / str(number)
            image, label = truth(number, 4)
            inside = [f"IMG-0004-{2 * k + 2:05d}" for k in range(SLICES)]
            outside = [f"IMG-0004-{2 * k + 1:05d}" for k in range(SLICES)]
            t2 = [f"IMG-0002-{k + 1:05d}" for k in range(SLICES)]
            uid = f"1.2.{number}"
            for folder, stems, volume in (
                (mr / "T1DUAL/DICOM_anon/InPhase", inside, image),
                (mr / "T1DUAL/DICOM_anon/OutPhase", outside, image // 2),
                (mr / "T2SPIR/DICOM_anon", t2, image + 7),
            ):
                names = [f"{stem}.dcm" for stem in stems]
                write_series(
                    folder, volume.astype(np.int16), names, modality="MR", intercept=0, uid=f"{uid}.{stems[0][-1]}"
                )
            scan, liver = truth(100 + number, 1)
            write_series(
                ct / "DICOM_anon", scan, [f"i{k:04d},0000b.dcm" for k in range(SLICES)],
                modality="CT", intercept=-1000, uid=f"{uid}.9",
            )  # fmt: skip
            if half == "Train_Sets":
                write_masks(mr / "T1DUAL/Ground", label, [mr_mask(stem) for stem in inside])
                write_masks(mr / "T2SPIR/Ground", label, [mr_mask(stem) for stem in t2])
                write_masks(ct / "Ground", liver, [f"liver_GT_{k:03d}.png" for k in range(SLICES)], one_bit=True)
    return root
