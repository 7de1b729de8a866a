"""Releases with several MR contrasts of which one is annotated: ISLES 2022 in both layouts, SPPIN."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tools.datasets import phantom, write_nifti
from tests.tools.sources import AFFINE

SHAPE = (14, 12, 10)
COARSE_SHAPE = (30, 26, 4)


def coarse_affine() -> np.ndarray:
    """A grid over the same box as AFFINE's, finer in plane and coarser across planes."""
    ratio = np.array(SHAPE) / np.array(COARSE_SHAPE)
    step = np.diag([*ratio, 1.0])
    step[:3, 3] = (ratio - 1) / 2
    return np.asarray(AFFINE @ step)


def scan(seed: int, channel: int = 0) -> np.ndarray:
    return phantom(SHAPE, classes=1, channels=3, seed=seed)[0][channel]


def mask(seed: int) -> np.ndarray:
    return phantom(SHAPE, classes=1, channels=3, seed=seed)[1]


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Values that are linear in space (mm), so that linear resampling is exact inside."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    place = grid @ affine[:3, :3].T + affine[:3, 3]
    return np.asarray(100 + place @ [1.0, 2.0, 3.0])


def add_stroke(root: Path, number: int, *, flat: bool, label: bool = True, lesion: bool = True) -> dict[str, Path]:
    """One case of ISLES: float64 DWI and ADC, FLAIR on its own grid, a uint16 mask."""
    sub, ses = f"sub-strokecase{number:04d}", "ses-0001"
    stem = f"{sub}_{ses}"
    home = (root / "rawdata" if flat else root) / sub / ses
    files = {
        "dwi": home / ("" if flat else "dwi") / f"{stem}_dwi.nii.gz",
        "adc": home / ("" if flat else "dwi") / f"{stem}_adc.nii.gz",
        "flair": home / ("" if flat else "anat") / f"{stem}_{'flair' if flat else 'FLAIR'}.nii.gz",
        "msk": root / "derivatives" / sub / ses / f"{stem}_msk.nii.gz",
    }
    write_nifti(files["dwi"], scan(number, 0).astype(np.float64), AFFINE)
    write_nifti(files["adc"], scan(number, 1).astype(np.float64), AFFINE)
    write_nifti(files["flair"], ramp(COARSE_SHAPE, coarse_affine()).astype(np.float32), coarse_affine())
    if label:
        write_nifti(files["msk"], (mask(number) * lesion).astype(np.uint16), AFFINE)
        (files["msk"].parent / f"{stem}_snp.png").write_bytes(b"\x89PNG")
    (files["dwi"].parent / f"{stem}_dwi.json").write_text("{}")
    return files


def make_isles(root: Path, *, flat: bool) -> Path:
    """Two cases with a lesion, one without, one of the hidden test set."""
    top = root / "dataset" if flat else root / "ISLES-2022"
    for number in (1, 2):
        add_stroke(top, number, flat=flat)
    add_stroke(top, 150, flat=flat, lesion=False)
    add_stroke(top, 251, flat=flat, label=False)
    (top / "dataset_description.json").write_text("{}")
    (top / "participants.tsv").write_text("participant_id\n")
    return root


def add_tumour(root: Path, patient: int, date: str) -> dict[str, Path]:
    """One scan of SPPIN: a label and T1_gd on one grid, the others on another."""
    name = f"PT_{patient:02d}"
    folder = root / "SPPIN_Dataset" / "SPPIN_train" / name / date
    files = {
        "T1_gd": folder / f"{name}_T1_gd_{date}.nii",
        "T2": folder / f"{name}_T2_{date}.nii",
        "DWI_b0": folder / f"{name}_DWI_b0_{date}.nii",
        "DWI_b100": folder / f"{name}_DWI_b100_{date}.nii",
        "NB": folder / f"{name}_NB_{date}.nii.gz",
    }
    seed = patient * 100 + int(date[-2:])
    write_nifti(files["T1_gd"], scan(seed).astype(np.int16), AFFINE)
    write_nifti(files["NB"], mask(seed), AFFINE)
    for contrast in ("T2", "DWI_b0", "DWI_b100"):
        write_nifti(files[contrast], ramp(COARSE_SHAPE, coarse_affine()).astype(np.float32), coarse_affine())
    return files


def make_sppin(root: Path) -> Path:
    """Two scans of one patient, one of another."""
    for patient, date in ((6, "20180628"), (6, "20181105"), (7, "20190101")):
        add_tumour(root, patient, date)
    return root
