"""Which expert works on which structure, at each depth: a table whose cells are the darker the larger the share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.routing_use import PlaceUse
from medmoe_cli.core.reporting.numbers import DASH, listed, percent
from medmoe_cli.core.reporting.page import Block, Group, Table, Text
from medmoe_cli.core.reporting.variety import dependence

_MAX_COLUMNS = 18


def heat_blocks(places: Mapping[str, PlaceUse], names: Mapping[str, str]) -> tuple[Block, ...]:
    """A sentence and tables of shares, one row per structure, side by side as far as there is room.

    Args:
        places: where items choose; those that know no structures are left out.
        names: of the places, as readers say them.
    """
    known = {name: place for name, place in places.items() if place.classes}
    if not known:
        return ()
    tables: list[Block] = []
    for part in _parts(known):
        tables.append(_table({name: known[name] for name in part}, names))
    return (*_words(known, names), *tables)


def _parts(places: Mapping[str, PlaceUse]) -> list[list[str]]:
    """Places that stand in one table."""
    parts: list[list[str]] = []
    width = 0
    for name, place in places.items():
        if not parts or width + place.num_experts > _MAX_COLUMNS:
            parts.append([])
            width = 0
        parts[-1].append(name)
        width += place.num_experts
    return parts


def _words(places: Mapping[str, PlaceUse], names: Mapping[str, str]) -> tuple[Block, ...]:
    structures = {key for place in places.values() for key in place.classes}
    if len(structures) < 2:
        return ()
    parts = []
    for name, place in places.items():
        share = dependence(np.array([_counts(place, key) for key in place.classes]))
        parts.append(f"{names[name]}: {percent(share)}")
    return (
        Text(
            text="How much of the choice the structure that is asked for explains (0 %: the experts do not tell "
            f"structures apart; 100 %: each structure has experts of its own): {listed(parts, limit=16)}."
        ),
    )


def _table(places: Mapping[str, PlaceUse], names: Mapping[str, str]) -> Table:
    structures = list(dict.fromkeys(key for place in places.values() for key in place.classes))
    rows, shades = [], []
    for key in structures:
        shares = [share for place in places.values() for share in _shares(place, key)]
        rows.append((key.replace("_", " "), *(DASH if share is None else percent(share) for share in shares)))
        shades.append(tuple(share or 0.0 for share in shares))
    one = len(places) == 1
    spoken = names[next(iter(places))] if one else ""
    return Table(
        caption=f"{spoken}, by structure" if one else "Which expert works on which structure",
        columns=("Structure", *_headings(places, word="expert " if one else "")),
        groups=() if one else tuple(_group(names[name], place) for name, place in places.items()),
        rows=tuple(rows),
        shades=_stretched(shades),
        note="Shares of a structure's items, in percent: those of a row add up to 100 at each place. Darker is more.",
    )


def _headings(places: Mapping[str, PlaceUse], *, word: str) -> list[str]:
    return [f"{word}{expert + 1}" for place in places.values() for expert in range(place.num_experts)]


def _group(name: str, place: PlaceUse) -> Group:
    return Group(title=f"{name}, expert", columns=place.num_experts)


def _shares(place: PlaceUse, structure: str) -> Sequence[float | None]:
    if structure not in place.classes:
        return [None] * place.num_experts
    counts = _counts(place, structure)
    return [float(share) for share in counts / max(float(counts.sum()), 1e-12)]


def _counts(place: PlaceUse, structure: str) -> NDArray[np.float64]:
    return np.asarray(place.classes[structure], float)


def _stretched(shades: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    """The darkest cell is 1."""
    top = max((share for row in shades for share in row), default=0.0)
    return tuple(tuple(round(share / max(top, 1e-12), 3) for share in row) for row in shades)
