"""A member's contact sheet: its twenty best and its twenty worst masks, read once more to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.quality_scan import OpenCase, open_case
from medmoe_cli.core.data.selection import Verdicts
from medmoe_cli.core.reporting.contact_sheet import Block, Tile, draw_contact_sheet
from medmoe_cli.core.workflows.medseg.members import MeasuredMember

_SHOWN = 20
_TERMS = ("cl", "co", "en", "fg", "re")
_LEGEND = "percentiles in the class: cl clarity, co contrast, en entropy, fg foreground ratio, re few regions"


def best_and_worst(
    one: MeasuredMember, table: NDArray[Any], verdicts: Verdicts, shown: NDArray[np.bool_]
) -> bytes | None:
    """The sheet as a PNG; None when no mask is fit to be selected.

    Args:
        one: the member.
        table: its masks.
        verdicts: about them.
        shown: masks that may be shown; those excluded by hand need no second look.
    """
    places = np.flatnonzero((verdicts.rank > 0) & shown)
    order = places[np.argsort(-verdicts.score[places], kind="stable")]
    best = order[: min(_SHOWN, (len(order) + 1) // 2)]
    worst = order[::-1][: min(_SHOWN, len(order) // 2)]
    if not len(best):
        return None
    tiles = _tiles(one, table, verdicts, np.concatenate([best, worst]))
    blocks = (
        Block(title=f"best {len(best)} of {len(order)}", tiles=tuple(tiles[place] for place in best)),
        Block(title=f"worst {len(worst)} of {len(order)}", tiles=tuple(tiles[place] for place in worst)),
    )
    return draw_contact_sheet(blocks, title=f"{one.name} ({_LEGEND})")


def _tiles(
    one: MeasuredMember, table: NDArray[Any], verdicts: Verdicts, places: NDArray[np.intp]
) -> dict[np.intp, Tile]:
    """A tile for each row; a case is opened once."""
    tiles: dict[np.intp, Tile] = {}
    for case_place in np.unique(table["case"][places]):
        case = one.member.dataset.training[case_place]
        opened = open_case(case, one.plan)
        for place in places[table["case"][places] == case_place]:
            tiles[place] = _tile(one, opened, case.id, table[place], verdicts, place)
    return tiles


def _tile(one: MeasuredMember, opened: OpenCase, case_id: str, row: Any, verdicts: Verdicts, place: np.intp) -> Tile:
    index, value = int(row["slice"]), int(row["value"])
    shown = opened.shown(index)
    colour = len(shown.picture_CHW) == 3
    percents = np.clip(np.round(100 * verdicts.percentiles[place]), 0, 100).astype(int)
    return Tile(
        title=case_id if opened.scan.num_slices == 1 else f"{case_id}, slice {index}",
        name=one.names[value],
        score=float(verdicts.score[place]),
        detail=" ".join(f"{term} {percent}" for term, percent in zip(_TERMS, percents, strict=True)),
        picture=np.moveaxis(shown.picture_CHW, 0, -1) if colour else shown.picture_CHW[0],
        mask=shown.label_HW == value,
        pixel_mm=shown.pixel_mm,
    )
