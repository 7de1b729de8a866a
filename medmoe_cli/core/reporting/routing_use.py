"""Which expert did what: bars with the balance line, what each expert chose, tables by class and case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from numpy.typing import NDArray

from medmoe_cli.core.config.routing_use import Counts, PlaceUse, RoutingUse
from medmoe_cli.core.reporting.figures import new_figure, plain_axes, png_of
from medmoe_cli.core.reporting.numbers import listed, percent
from medmoe_cli.core.reporting.page import Block, Picture, Table, Text
from medmoe_cli.core.reporting.palette import BALANCE_LINE, EXPERT, INK
from medmoe_cli.core.reporting.routing_heat import heat_blocks
from medmoe_cli.core.reporting.variety import effective_number

_MAX_BAR_PLACES = 12
_MAX_CASE_ROWS = 40
# What readers make of a place's name; others are shown as they are.
_PLACES = {"feb": "Fusion of the encoder's layers (FEB)", "token": "Choice of the mask's token"}
_IDLE_SHARE = 0.01
_NARROW = 8


def routing_blocks(use: RoutingUse) -> tuple[Block, ...]:
    """A sentence and pictures per routed place, then tables by structure."""
    deciding = {name: place for name, place in use.places.items() if place.kind == "items choose"}
    choosing = {name: place for name, place in use.places.items() if place.kind == "experts choose"}
    blocks: list[Block] = []
    if deciding:
        blocks += _of_deciding(deciding)
        names = {name: place_words(name) for name in deciding}
        blocks += heat_blocks({name: place for name, place in deciding.items() if name not in _PLACES}, names)
        blocks += heat_blocks({name: place for name, place in deciding.items() if name in _PLACES}, names)
    for name, place in choosing.items():
        blocks += _of_choosing(name, place)
    blocks += [_table(name, place, by="Structure") for name, place in choosing.items() if place.classes]
    return tuple(blocks)


def routing_case_tables(use: RoutingUse) -> tuple[Block, ...]:
    """A table per place: each case's shares."""
    return tuple(_table(name, place, by="Case") for name, place in use.places.items() if place.cases)


def totals(place: PlaceUse) -> NDArray[np.float64]:
    """Counts over all cases: (E,), or (E, n) where experts choose."""
    shape = (place.num_experts,) if place.num_items is None else (place.num_experts, place.num_items)
    found = np.zeros(shape)
    for counts in place.cases.values():
        found = found + np.asarray(counts, float)
    return found


def _of_deciding(places: Mapping[str, PlaceUse]) -> list[Block]:
    lines = [_verdict(name, place) for name, place in places.items()]
    picture = _bars(places) if len(places) <= _MAX_BAR_PLACES else _share_map(places)
    return [
        Text(
            text="At each of these places in the network a router sends every item to the experts that suit it. Even "
            "use is no aim in itself, but an expert without work is wasted, and one that does everything makes the "
            "others pointless."
        ),
        picture,
        *(Text(text=line) for line in lines),
    ]


def _verdict(name: str, place: PlaceUse) -> str:
    counts = totals(place)
    shares = _shares(counts)
    busiest = int(shares.argmax())
    idle = [str(expert + 1) for expert in range(place.num_experts) if shares[expert] < _IDLE_SHARE]
    text = (
        f"{place_words(name)}: expert {busiest + 1} of {place.num_experts} takes most, "
        f"{percent(float(shares[busiest]))} of {counts.sum():,.0f} choices by {_plural(place.item)}; as varied as "
        f"{effective_number(counts):.1f} evenly used experts."
    )
    if idle:
        text += f" Hardly used (below 1 %): {listed(idle)}."
    return text


def _bars(places: Mapping[str, PlaceUse]) -> Picture:
    columns = min(3, len(places))
    rows = math.ceil(len(places) / columns)
    figure = new_figure(3.6 * columns + 0.4, 2.7 * rows + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    described = []
    for axes, (name, place) in zip(grid.ravel(), places.items(), strict=False):
        shares = _shares(totals(place))
        _bar_panel(axes, shares, title=place_words(name))
        described.append(f"{place_words(name)}: {listed([percent(float(share)) for share in shares], limit=16)}.")
    for axes in grid.ravel()[len(places) :]:
        axes.set_axis_off()
    return Picture(
        name="routing-experts",
        png=png_of(figure),
        alt="Share of the work per expert. " + " ".join(described),
        caption="Share of the items that each expert works on, over all validation cases. The dashed line marks even "
        "use.",
    )


def _bar_panel(axes: Axes, shares: NDArray[np.float64], *, title: str) -> None:
    number = len(shares)
    axes.bar(range(1, number + 1), 100 * shares, color=EXPERT, width=0.7)
    axes.axhline(100 / number, color=BALANCE_LINE, linestyle="--", linewidth=1.4, zorder=1.5)
    halo: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for expert, share in enumerate(shares, start=1):
        label = axes.text(expert, 100 * share, f"{100 * share:.0f}", ha="center", va="bottom", fontsize=8, color=INK)
        label.set_path_effects(halo)
    axes.set_xticks(range(1, number + 1))
    axes.set_ylim(0, max(100 / number, 100 * float(shares.max())) * 1.18)
    plain_axes(axes, x="expert", y="share, %", title=title)


def _share_map(places: Mapping[str, PlaceUse]) -> Picture:
    experts = max(place.num_experts for place in places.values())
    shares = np.full((len(places), experts), np.nan)
    for row, place in enumerate(places.values()):
        shares[row, : place.num_experts] = _shares(totals(place))
    return Picture(
        name="routing-experts",
        png=_heat_map(
            shares, x="expert", y="", columns=[str(e + 1) for e in range(experts)], rows=list(map(place_words, places))
        ),
        alt=f"Share of the work per expert at {len(places)} places, as a heat map.",
        caption="Share of the items that each expert works on, in percent of its row, over all validation cases.",
    )


def _of_choosing(name: str, place: PlaceUse) -> list[Block]:
    counts_EN = totals(place)
    rows_EN = counts_EN / np.maximum(counts_EN.sum(axis=1, keepdims=True), 1e-12)
    by_item_N = counts_EN.sum(axis=0)
    shares_N = _shares(by_item_N)
    number = len(shares_N)
    favourites = [
        f"expert {expert + 1} most often {place.item} {int(row.argmax()) + 1} ({percent(float(row.max()))})"
        for expert, row in enumerate(rows_EN)
        if row.any()
    ]
    ignored = [str(item + 1) for item in range(number) if shares_N[item] < _IDLE_SHARE]
    text = (
        f"{place_words(name)}: each of {place.num_experts} experts chooses among the {number} {_plural(place.item)} "
        f"of an image. {_sentence(listed(favourites, limit=16))}."
    )
    if ignored:
        text += f" Hardly chosen by any (below 1 %): {place.item} {listed(ignored, limit=24)}."
    heat = Picture(
        name=f"routing-{_slug(name)}-choices",
        png=_heat_map(
            rows_EN,
            x=place.item,
            y="expert",
            columns=[str(item + 1) for item in range(number)],
            rows=[str(expert + 1) for expert in range(place.num_experts)],
        ),
        alt=f"Heat map of which {place.item} each expert chooses. {_sentence(listed(favourites, limit=16))}.",
        caption=f"What each expert chooses, in percent of its choices (each row adds up to 100), over all validation "
        f"cases. {_sentence(place.item)} 1 is the first.",
        half=number <= _NARROW,
    )
    figure = new_figure(5.4, 3.2)
    axes = figure.subplots()
    _bar_panel(axes, shares_N, title=f"{place_words(name)}: all experts together")
    axes.set_xlabel(place.item, fontsize=10)
    bars = Picture(
        name=f"routing-{_slug(name)}-{_slug(_plural(place.item))}",
        png=png_of(figure),
        alt=f"Share of all choices per {place.item}: "
        f"{listed([percent(float(share)) for share in shares_N], limit=32)}.",
        caption=f"How often each {place.item} is chosen by any expert. The dashed line marks even use.",
        half=True,
    )
    return [Text(text=text), heat, bars]


def _heat_map(shares: NDArray[np.float64], *, x: str, y: str, columns: Sequence[str], rows: Sequence[str]) -> bytes:
    figure = new_figure(max(4.0, 0.52 * len(columns) + 1.6), 0.46 * len(rows) + 1.2)
    axes = figure.subplots()
    highest = float(np.nanmax(shares)) if np.isfinite(shares).any() else 1.0
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=max(highest, 1e-6), aspect="auto")
    for row in range(shares.shape[0]):
        for column in range(shares.shape[1]):
            share = shares[row, column]
            if np.isfinite(share):
                dark = share < 0.6 * highest
                colour = "white" if dark else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.tick_params(labelsize=9, length=0)
    return png_of(figure)


def _table(name: str, place: PlaceUse, *, by: Literal["Structure", "Case"]) -> Table:
    """Shares of experts, or of items where experts choose, by class or case."""
    chosen = place.kind == "experts choose"
    what = place.item if chosen else "expert"
    number = (place.num_items or 0) if chosen else place.num_experts
    counted = place.cases if by == "Case" else place.classes
    rows = tuple(
        (key if by == "Case" else key.replace("_", " "), *(percent(share) for share in _of_items(counts, chosen)))
        for key, counts in list(counted.items())[:_MAX_CASE_ROWS]
    )
    left_out = len(counted) - len(rows)
    return Table(
        caption=f"{place_words(name)}, by {by.lower()}",
        columns=(by, *(f"{what} {index + 1}" for index in range(number))),
        rows=rows,
        note=f"{left_out} more in validation/routing.json." if left_out else "",
    )


def _of_items(counts: Counts, chosen: bool) -> list[float]:
    array = np.asarray(counts, float)
    return [float(share) for share in _shares(array.sum(axis=0) if chosen else array)]


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts / max(float(counts.sum()), 1e-12))


def place_words(name: str) -> str:
    """'layer1' as 'Layer 1'."""
    if name in _PLACES:
        return _PLACES[name]
    words = "".join(
        f" {char}" if char.isdigit() and before.isalpha() else char
        for before, char in zip(" " + name, name, strict=False)
    )
    return _sentence(words.replace("_", " "))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plural(item: str) -> str:
    return item[:-1] + "ies" if item.endswith("y") and item[-2:-1] not in "aeiou" else item + "s"


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower())
