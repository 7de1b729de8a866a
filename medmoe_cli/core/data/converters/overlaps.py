"""One label map from one mask per class, with a rule for voxels that several classes claim."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


class Stack:
    """Collects binary masks of one case into a label map.

    Args:
        shape: of the label map.
        overlap: whether the higher or the lower value keeps a voxel that two classes claim.
    """

    def __init__(self, shape: tuple[int, int, int], *, overlap: Literal["higher", "lower"]) -> None:
        self.label = np.zeros(shape, np.uint16)
        self.overlap = overlap
        self.contested = 0

    def add(self, value: int, mask: NDArray[Any]) -> None:
        """Lay one class's mask over what is there; masks of one value are united."""
        mask = mask != 0
        taken = mask & (self.label != 0) & (self.label != value)
        self.contested += int(taken.sum())
        keep = taken & ((self.label > value) if self.overlap == "higher" else (self.label < value))
        self.label[mask & ~keep] = value

    def notes(self) -> tuple[str, ...]:
        """What to report: how many voxels were contested."""
        if not self.contested:
            return ()
        return (f"{self.contested} voxels claimed by several classes, kept by the {self.overlap} value",)
