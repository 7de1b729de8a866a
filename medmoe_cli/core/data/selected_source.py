"""SelectedSource: of a source's samples those with a selected mask, which alone is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medmoe_cli.core.imaging.sample import Sample, SampleSource

Chosen = Mapping[str, Mapping[int, frozenset[int]]]
"""Case to slice to label values."""


class SelectedSource:
    """The selected masks of a source of slices, as a `SampleSource`.

    A class that is there but was not selected is unknown in its slice: it is not asked for, and is no background.

    Args:
        source: whose samples are named CASE:SLICE; of volumes, CASE:VALUE, where a class of a case is kept that is
            selected on any of its slices.
        chosen: the selected masks.
        values: all label values of the source.
        volumes: the source is one of volumes.
    """

    def __init__(self, source: SampleSource, chosen: Chosen, *, values: tuple[int, ...], volumes: bool = False) -> None:
        self._source, self._values = source, values
        self._items: list[tuple[int, tuple[int, ...]]] = []
        for index in range(len(source)):
            case, _, place = source.key(index).rpartition(":")
            slices = chosen.get(case, {})
            wanted = frozenset().union(*slices.values()) if volumes else slices.get(int(place), frozenset())
            present = tuple(value for value in source.classes(index) if value in wanted)
            if present:
                self._items.append((index, present))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._items)

    def key(self, index: int) -> str:
        """The source's own."""
        return self._source.key(self._items[index][0])

    def classes(self, index: int) -> tuple[int, ...]:
        """The selected label values."""
        return self._items[index][1]

    def load(self, index: int, *, seed: int | None) -> Sample:
        """The source's sample without the masks that were not selected."""
        own, wanted = self._items[index]
        sample = self._source.load(own, seed=seed)
        present = set() if sample.label is None else {int(value) for value in np.unique(sample.label)} - {0}
        left_out = tuple(sorted(present - set(wanted)))
        label = sample.label
        if label is not None and left_out:
            label = np.where(np.isin(label, left_out), 0, label).astype(label.dtype)
        asked = tuple(value for value in sample.asked or self._values if value not in left_out)
        known = self._values if sample.known is None else sample.known
        known = tuple(value for value in known if value not in left_out)
        return replace(sample, label=label, asked=asked, known=known)
