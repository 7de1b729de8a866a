"""ConcatSource: the samples of several datasets as one source, those of rare owners repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.imaging.sample import Sample, SampleSource


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePart:
    """One of the joined sources.

    Attributes:
        name: of its dataset; begins the names of its samples.
        source: its samples.
        owner: which expert answers for them, 0 the general model.
        offset: added to its label values, so that those of different datasets stay apart.
    """

    name: str
    source: SampleSource
    owner: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    part: SourcePart
    index: int
    copy: int = 0


class ConcatSource:
    """Joined sources as one `SampleSource`: in their order, each owner's samples after those of the one before.

    Args:
        parts: the sources; their names differ.
        balanced: repeat the samples of owners that have fewer, evenly, so that each owner has as many. Copies of a
            sample share its name, and are drawn anew: other prompts, another augmentation.
    """

    def __init__(self, parts: Sequence[SourcePart], *, balanced: bool = False) -> None:
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources of one name: {', '.join(names)}")
        by_owner: dict[int, list[_Item]] = {}
        for part in parts:
            by_owner.setdefault(part.owner, []).extend(_Item(part, index) for index in range(len(part.source)))
        most = max((len(items) for items in by_owner.values()), default=0)
        self._items = [item for items in by_owner.values() for item in (_repeated(items, most) if balanced else items)]

    def __len__(self) -> int:
        """Number of samples, copies included."""
        return len(self._items)

    def key(self, index: int) -> str:
        """'DATASET/case_001:2'."""
        item = self._items[index]
        return f"{item.part.name}/{item.part.source.key(item.index)}"

    def classes(self, index: int) -> tuple[int, ...]:
        """Label values present, in the joined numbering."""
        item = self._items[index]
        return tuple(value + item.part.offset for value in item.part.source.classes(item.index))

    def load(self, index: int, *, seed: int | None) -> Sample:
        """The part's sample, in the joined numbering and with its owner."""
        item = self._items[index]
        if seed is not None and item.copy:
            seed = derive_seed(seed, "copy", item.copy)
        part, sample = item.part, item.part.source.load(item.index, seed=seed)
        label, asked = sample.label, sample.asked
        if part.offset:
            if label is not None:
                label = np.where(label > 0, label.astype(np.uint16) + np.uint16(part.offset), np.uint16(0))
            if asked is not None:
                asked = tuple(value + part.offset for value in asked)
        return replace(
            sample,
            label=label,
            asked=asked,
            case_id=f"{part.name}/{sample.case_id}",
            owner=part.owner,
            copy=item.copy,
        )


def _repeated(items: list[_Item], wanted: int) -> list[_Item]:
    """As many as wanted: all of them so many times, then some of them, evenly spread."""
    if not items:
        return []
    rounds, rest = divmod(wanted, len(items))
    whole = [replace(item, copy=copy) for copy in range(rounds) for item in items]
    spread = (place * len(items) // rest for place in range(rest))
    return whole + [replace(items[place], copy=rounds) for place in spread]
