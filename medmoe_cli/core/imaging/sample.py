"""What training and inference are fed: arrays of one slice or volume on the network's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One network input.

    Attributes:
        image: float32 (C, H, W) or (C, D, H, W), normalised by the plan (2D methods: to [0, 1]).
        label: integer (H, W) or (D, H, W) on the same grid; None where nothing is labelled.
        valid: bool of the label's shape: False on padding (added to reach the network's square input).
        case_id: the case it comes from.
        index: the slice along the plan's slice axis (0 for 2D images and volumes).
        asked: label values that may be asked for; None: every one present.
        known: label values that were looked for when the sample was labelled, so that one which is not there is known
            to be absent; the other classes may be anywhere in the background. None: every class.
        owner: which expert answers for the sample, counted from 1; 0 the general model.
        copy: in a source that repeats samples under their names, which repetition it is; each is drawn anew.
    """

    image: NDArray[np.float32]
    label: NDArray[np.integer] | None
    valid: NDArray[np.bool_]
    case_id: str
    index: int
    asked: tuple[int, ...] | None = None
    known: tuple[int, ...] | None = None
    owner: int = 0
    copy: int = 0


class SampleSource(Protocol):
    """A finite, indexable set of samples; the engine draws from it."""

    def __len__(self) -> int:
        """Number of samples (slices with their case for 2D methods)."""

    def key(self, index: int) -> str:
        """A stable name ('case_001:17'), shared by copies alone; caches and seeds are keyed by it."""

    def classes(self, index: int) -> tuple[int, ...]:
        """Label values present in the sample, without reading it (background excluded)."""

    def load(self, index: int, *, seed: int | None) -> Sample:
        """Read one sample; with a seed, augment it, drawing from that seed only."""
