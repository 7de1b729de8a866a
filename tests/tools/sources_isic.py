"""ISIC challenge folders under the names that its archives unpack to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

FOLDERS = {
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", "_Segmentation"),
    "2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", "_segmentation"),
    "2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", "_segmentation"),
}


def add_picture(root: Path, year: str, part: str, number: int, *, mask: bool = True) -> None:
    """A picture of its own size and content, its mask, and in 2017 the superpixels beside it."""
    random = np.random.default_rng(number)
    rows, columns = 30 + number % 5, 40 + number % 7
    pictures, masks, suffix = FOLDERS[year]
    name = "Test_v2" if (year, part) == ("2017", "Test") else part
    case = f"ISIC_{number:07d}"
    folder = root / pictures.format(name)
    folder.mkdir(parents=True, exist_ok=True)
    colours = random.integers(0, 256, (rows, columns, 3)).astype(np.uint8)
    Picture.fromarray(colours).save(folder / f"{case}.jpg", quality=95)
    if year == "2017":
        Picture.fromarray(colours).save(folder / f"{case}_superpixels.png")
    if mask:
        lesion = np.zeros((rows, columns), np.uint8)
        lesion[5:20, 8 : 12 + number % 9] = 255
        target = root / masks.format(name)
        target.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(lesion).save(target / f"{case}{suffix}.png")


def make_isic(root: Path, year: str) -> Path:
    """Three training pictures, one for validation (not in 2016), two for test; texts as the archives carry them."""
    for number in (0, 1, 2):
        add_picture(root, year, "Training", number)
    if year != "2016":
        add_picture(root, year, "Validation", 10)
    for number in (20, 21):
        add_picture(root, year, "Test", number)
    pictures, masks, _ = FOLDERS[year]
    for name in ("ATTRIBUTION.txt", "LICENSE.txt"):
        (root / pictures.format("Training") / name).write_text("UDA-1 by Anonymous, CC0")
    (root / masks.format("Training") / ".DS_Store").write_bytes(b"\0")
    return root
