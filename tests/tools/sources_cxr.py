"""Shenzhen's chest X-rays and their masks, as NLM and Kaggle lay them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

SHAPE = (44, 50)


def xray(seed: int) -> np.ndarray:
    """Grey pixels, rows first."""
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)


def lungs(seed: int, *, soft: bool = False) -> np.ndarray:
    """A 0/255 mask, rows first; a soft one has the grey edges of a resized copy."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:38, 5 : 20 + seed % 3] = mask[6:38, 28:45] = 255
    if soft:
        mask[5, 5:20], mask[38, 28:45] = 90, 160
    return mask


def add_xray(folder: Path, case: str, *, seed: int = 0, palette: bool = False) -> None:
    """A PNG in grey, or in a grey palette as NLM stores them."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Picture.fromarray(xray(seed))
    if palette:
        # Index 255 - v stands for grey v: what reads indices in place of colours gets a negative.
        picture = Picture.fromarray(255 - xray(seed))
        picture.putpalette([255 - value for value in range(256) for _ in range(3)])
    picture.save(folder / f"{case}.png")


def add_mask(folder: Path, name: str, *, seed: int = 0, soft: bool = False) -> None:
    """A mask."""
    folder.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(lungs(seed, soft=soft)).save(folder / f"{name}.png")


def make_cxr(root: Path) -> Path:
    """NLM's folders beside the masks' own: two annotated X-rays, two of the 96, a mask gone, a stray mask, junk."""
    pictures, masks = root / "ChinaSet_AllFiles" / "CXR_png", root / "mask" / "mask"
    for seed, case in enumerate(["CHNCXR_0001_0", "CHNCXR_0327_1", "CHNCXR_0025_0", "CHNCXR_0565_1", "CHNCXR_0100_0"]):
        add_xray(pictures, case, seed=seed, palette=seed == 1)
    add_mask(masks, "CHNCXR_0001_0_mask", seed=0)
    add_mask(masks, "CHNCXR_0327_1_mask", seed=1, soft=True)
    add_mask(masks, "CHNCXR_0600_1_mask", seed=2)
    readings = root / "ChinaSet_AllFiles" / "ClinicalReadings"
    readings.mkdir()
    (readings / "CHNCXR_0001_0.txt").write_text("male 45yrs\nnormal")
    add_mask(root / "mask" / ".ipynb_checkpoints", "CHNCXR_0001_0_mask", seed=5)
    return root


def make_kaggle(root: Path) -> Path:
    """Kaggle's combined folder: Montgomery's X-rays too (mask and X-ray share a name), a folder of copies, papers."""
    lung = root / "Lung Segmentation"
    for seed, case in enumerate(["CHNCXR_0002_0", "CHNCXR_0036_0"]):
        add_xray(lung / "CXR_png", case, seed=seed)
    add_xray(lung / "test", "CHNCXR_0036_0", seed=1)
    add_xray(lung / "test", "CHNCXR_0002_0", seed=0)
    add_mask(lung / "masks", "CHNCXR_0002_0_mask", seed=0)
    add_xray(lung / "CXR_png", "MCUCXR_0001_0", seed=7)
    add_mask(lung / "masks", "MCUCXR_0001_0", seed=7)
    (lung / "NLM-ChinaCXRSet-ReadMe.docx").write_bytes(b"PK")
    add_xray(lung / "CXR_png" / ".ipynb_checkpoints", "CHNCXR_0002_0-checkpoint", seed=9)
    return root
