"""ConcatSource: the samples of several datasets as one source, their labels in one numbering.

Those of rare owners may be repeated (for a gate that must see every owner), and members of a collection may be drawn
with weights instead (`data/balance.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        values: its label values to the joined ones, several to one perhaps; what it does not name becomes background.
            None where they are the same.
        known: joined label values that the dataset labels wherever they are; None for all.
    """

    name: str
    source: SampleSource
    owner: int = 0
    values: Mapping[int, int] | None = None
    known: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    part: int
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
        self.parts = tuple(parts)
        by_owner: dict[int, list[_Item]] = {}
        for place, part in enumerate(parts):
            by_owner.setdefault(part.owner, []).extend(_Item(place, index) for index in range(len(part.source)))
        most = max((len(items) for items in by_owner.values()), default=0)
        self._items = [item for items in by_owner.values() for item in (_repeated(items, most) if balanced else items)]
        self._tables = [None if part.values is None else _table(part.values) for part in parts]

    def __len__(self) -> int:
        """Number of samples, copies included."""
        return len(self._items)

    def key(self, index: int) -> str:
        """'DATASET/case_001:2'."""
        item = self._items[index]
        part = self.parts[item.part]
        return f"{part.name}/{part.source.key(item.index)}"

    def part_of(self, index: int) -> int:
        """The position of the sample's part."""
        return self._items[index].part

    def classes(self, index: int) -> tuple[int, ...]:
        """Label values present, in the joined numbering, ascending."""
        item = self._items[index]
        part = self.parts[item.part]
        return _renamed(part.source.classes(item.index), part.values)

    def load(self, index: int, *, seed: int | None) -> Sample:
        """The part's sample, in the joined numbering and with its owner."""
        item = self._items[index]
        if seed is not None and item.copy:
            seed = derive_seed(seed, "copy", item.copy)
        part, table = self.parts[item.part], self._tables[item.part]
        sample = part.source.load(item.index, seed=seed)
        label, asked, known = sample.label, sample.asked, part.known
        if sample.known is not None:
            own = set(_renamed(sample.known, part.values))
            known = tuple(sorted(own if known is None else own & set(known)))
        if table is not None and label is not None:
            label = table[np.minimum(label, len(table) - 1)]
        return replace(
            sample,
            label=label,
            asked=None if asked is None else _renamed(asked, part.values),
            known=known,
            case_id=f"{part.name}/{sample.case_id}",
            owner=part.owner,
            copy=item.copy,
        )


def _table(values: Mapping[int, int]) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Joined value by own value; the last entry stands for every value beyond."""
    table = np.zeros(max(values, default=0) + 2, np.uint16)
    for own, joined in values.items():
        table[own] = joined
    return table


def _renamed(own: Sequence[int], values: Mapping[int, int] | None) -> tuple[int, ...]:
    return tuple(own) if values is None else tuple(sorted({values[value] for value in own if value in values}))


def _repeated(items: list[_Item], wanted: int) -> list[_Item]:
    """As many as wanted: all of them so many times, then some of them, evenly spread."""
    if not items:
        return []
    rounds, rest = divmod(wanted, len(items))
    whole = [replace(item, copy=copy) for copy in range(rounds) for item in items]
    spread = (place * len(items) // rest for place in range(rest))
    return whole + [replace(items[place], copy=rounds) for place in spread]
