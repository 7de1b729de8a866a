"""Heart releases in small: MMWHS and ACDC, under their exact names and label values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.tools.datasets import phantom, write_nifti
from tests.tools.sources import AFFINE

MMWHS_VALUES = (205, 420, 500, 550, 600, 820, 850)
SHEARED = AFFINE.copy()
SHEARED[:3, 0] += 2e-3 * AFFINE[:3, 1]
"""Direction cosines that are not quite perpendicular, as some of ACDC are."""


def heart(seed: int, *, slip: bool = False) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """A phantom with MMWHS's values; a slip writes 421 for a part of 420."""
    images, label = phantom((14, 13, 10), classes=7, seed=seed)
    coded = np.array([0, *MMWHS_VALUES], np.uint16)[label]
    if slip:
        coded[np.unravel_index(np.flatnonzero(coded == 420)[:3], coded.shape)] = 421
    return images[0].astype(np.int16), coded


def make_mmwhs(root: Path, cases: Mapping[str, Sequence[int]] | None = None) -> Path:
    """ct_train, mr_train and ct_test folders; MR 1010 has the slip."""
    for part, numbers in (cases or {"ct": (1001, 1003), "mr": (1002, 1007, 1010)}).items():
        for number in numbers:
            image, label = heart(number, slip=(part, number) == ("mr", 1010))
            name = f"{part}_train_{number}"
            write_nifti(root / f"{part}_train" / f"{name}_image.nii.gz", image, AFFINE)
            write_nifti(root / f"{part}_train" / f"{name}_label.nii.gz", label, AFFINE)
    write_nifti(root / "ct_test" / "ct_test_2001_image.nii.gz", heart(2001)[0], AFFINE)
    return root


def make_acdc(root: Path, *, frames: Mapping[int, tuple[int, int]] | None = None) -> Path:
    """training and testing patients with Info.cfg, the cine series, both frames and their truth."""
    for number, (first, last) in (frames or {1: (1, 12), 2: (1, 10), 90: (4, 11), 101: (1, 14)}).items():
        name = f"patient{number:03d}"
        folder = root / "database" / ("training" if number <= 100 else "testing") / name
        # What the release says of patient090 is not known; this one contradicts its files.
        started = 1 if number == 90 else first
        for frame in (first, last):
            images, label = phantom((11, 9, 4), classes=3, seed=100 * number + frame)
            write_nifti(folder / f"{name}_frame{frame:02d}.nii.gz", images[0].astype(np.int16), SHEARED)
            write_nifti(folder / f"{name}_frame{frame:02d}_gt.nii.gz", label, SHEARED)
        write_nifti(folder / f"{name}_4d.nii.gz", np.zeros((11, 9, 4, 3), np.int16), AFFINE)
        (folder / "Info.cfg").write_text(
            f"ED: {started}\nES: {last}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        )
    (root / "MANDATORY_CITATION.md").write_text("cite")
    return root
