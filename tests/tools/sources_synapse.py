"""Synapse as TransUNet and SAMed pack it: a torso whose organs lie where they lie in people."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

# From BTCV's values to each scheme's, as the authors' scripts map them.
TO_SCHEME = {
    "transunet": {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8},
    "samed": {1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 7: 6, 8: 7, 11: 8},
    "btcv13": {value: value for value in range(1, 14)},
}
SHAPE = (40, 32, 12)
# Organ by BTCV value: centre as shares of (left, back, head), radii as shares.
_PLACES = {
    1: ((0.80, 0.62, 0.70), (0.09, 0.12, 0.20)),
    2: ((0.30, 0.75, 0.35), (0.07, 0.09, 0.20)),
    3: ((0.70, 0.75, 0.35), (0.07, 0.09, 0.20)),
    4: ((0.33, 0.22, 0.40), (0.04, 0.05, 0.10)),
    6: ((0.30, 0.40, 0.72), (0.20, 0.22, 0.24)),
    7: ((0.66, 0.33, 0.70), (0.11, 0.11, 0.20)),
    8: ((0.52, 0.70, 0.50), (0.04, 0.05, 0.50)),
    11: ((0.52, 0.48, 0.50), (0.09, 0.05, 0.10)),
}


def torso(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image in 0..1 and BTCV label (X towards the left, Y towards the back, Z towards the head)."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in SHAPE], indexing="ij"))
    label = np.zeros(SHAPE, np.uint8)
    for value, (centre, radii) in _PLACES.items():
        offset = random.uniform(-0.01, 0.01, 3)
        distance = (grid - (np.array(centre) + offset)[:, None, None, None]) / np.array(radii)[:, None, None, None]
        label[(distance**2).sum(axis=0) <= 1] = value
    image = np.where(label > 0, 0.5 + label / 40, 0.2) + random.normal(0, 0.02, SHAPE)
    return np.clip(image, 0, 1).astype(np.float32), label


def coded(label: NDArray[np.uint8], scheme: str) -> NDArray[np.uint8]:
    """BTCV values as the scheme's; organs that it does not have become background."""
    table = np.zeros(14, np.uint8)
    for source, target in TO_SCHEME[scheme].items():
        table[source] = target
    return table[label]


def packed(array_XYZ: NDArray[np.generic], scheme: str) -> NDArray[np.generic]:
    """As the scheme's authors lay it: TransUNet's slices on their side, SAMed's upright."""
    return array_XYZ.transpose(2, 1, 0) if scheme == "samed" else array_XYZ.transpose(2, 0, 1)


def make_synapse(
    root: Path,
    scheme: str,
    *,
    training: tuple[int, ...] = (5, 6),
    tests: tuple[int, ...] = (1,),
    eight_bits: bool = False,
) -> Path:
    """train_npz and test_vol_h5 with float labels; all of the phantom's slices are there."""
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    (root / "lists" / "lists_Synapse").mkdir(parents=True)
    (root / "lists" / "lists_Synapse" / "all.lst").write_text("case0001.npy.h5\n")
    for number in (*training, *tests):
        image, label = torso(number)
        if eight_bits:
            image = (np.rint(image * 255) / 255).astype(np.float32)
        image_DAB, label_DAB = packed(image, scheme), packed(coded(label, scheme), scheme).astype(np.float32)
        if number in tests:
            with h5py.File(root / "test_vol_h5" / f"case{number:04d}.npy.h5", "w") as file:
                file["image"], file["label"] = image_DAB, label_DAB
        else:
            for index in range(len(image_DAB)):
                path = root / "train_npz" / f"case{number:04d}_slice{index:03d}.npz"
                np.savez(path, image=image_DAB[index], label=label_DAB[index])
    return root
