"""Which masks a high-quality collection keeps: quotas per member and class, the better-ranked drawn by the seed.

SegMoTE (section 3.6) keeps 154,569 masks of twelve datasets, "prioritizing those with higher scores" and "random
sampling", then experts. It gives no total: complete, the twelve hold about six million (slice, class) masks by our
count (1,228 volumes of TotalSegmentator with some 250 slices of some 19 classes each are nearly all of them), so it
kept about one in forty. Here every class of every member keeps the same share; its masks are ranked by score, and the
quota is drawn from the best one and a half times as many. A draw hashes (seed, member, case, slice, class), so that
other cases or members change no mask's number. What a person excludes keeps its rank but is never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.data.quality import TERM_NAMES, percentiles
from medmoe_cli.core.data.quality_scan import group_by_value

PAPER_MASKS = 154_569
PAPER_FRACTION = 0.025
KEPT_WHOLE, KEPT_OF_SMALL = 20, 100
"""By default a class of up to 20 masks stays whole, and a larger one keeps its better half up to 100, however small
the paper's share of it is: a quality worth choosing by needs a choice."""

MIN_PIXELS = 10
MAX_FOREGROUND = 0.95
_POOL = 1.5


class Reason(IntEnum):
    """Why a mask is or is not selected."""

    SELECTED = 0
    TINY = 1
    WHOLE = 2
    EXCLUDED = 3
    BELOW = 4
    NOT_DRAWN = 5


REASONS = {
    Reason.SELECTED: "",
    Reason.TINY: f"fewer than {MIN_PIXELS} pixels",
    Reason.WHOLE: f"covers more than {MAX_FOREGROUND:.0%} of the picture",
    Reason.EXCLUDED: "excluded by hand",
    Reason.BELOW: "ranked below those that are drawn from",
    Reason.NOT_DRAWN: "ranked well, not drawn",
}


class Group(NamedTuple):
    """One class of one member, by the label's value in the member's files."""

    member: str
    value: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """About every row of a member's table.

    Attributes:
        percentiles: (N, 5), each term's among its class; NaN where a mask cannot be selected at all.
        score: their mean.
        rank: 1 is the best of its class; 0 where there is no score.
        reason: of `Reason`.
    """

    percentiles: NDArray[np.float32]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]
    reason: NDArray[np.uint8]


def usable(table: NDArray[Any]) -> NDArray[np.bool_]:
    """Which masks are neither specks nor whole pictures."""
    return np.asarray((table["pixels"] >= MIN_PIXELS) & (table["foreground"] <= MAX_FOREGROUND))


def quotas(sizes: Mapping[Group, int], *, fraction: float | None = None, masks: int | None = None) -> dict[Group, int]:
    """How many masks each class of each member keeps.

    Args:
        sizes: how many there are to choose from.
        fraction: the same share of each, at least one.
        masks: so many in all, by the largest remainders of equal shares, at least one of each where that is possible.
            With neither, the paper's share, but small classes whole (`KEPT_WHOLE`) or by half (`KEPT_OF_SMALL`).

    Raises:
        ConfigError: more masks are wanted than there are.
    """
    total = sum(sizes.values())
    if masks is not None:
        if masks > total:
            raise ConfigError(
                f"{masks} masks are more than there are",
                where="--masks",
                why=f"the members have {total} to choose from",
                fix=f"--masks {total} at most, or --fraction",
            )
        return _exactly(sizes, masks, total)
    if fraction is not None:
        return {group: math.ceil(round(fraction * size, 6)) for group, size in sizes.items()}
    return {
        group: max(
            math.ceil(round(PAPER_FRACTION * size, 6)),
            min(size, KEPT_WHOLE),
            min(math.ceil(size / 2), KEPT_OF_SMALL),
        )
        for group, size in sizes.items()
    }


def judge(
    table: NDArray[Any],
    *,
    member: str,
    cases: Sequence[str],
    names: Mapping[int, str],
    quotas: Mapping[int, int],
    excluded: NDArray[np.bool_],
    seed: int,
) -> Verdicts:
    """Score, rank and draw a member's masks.

    Args:
        table: the member's rows.
        member: its name, for the draws.
        cases: ids of its training cases, which rows name by place.
        names: class name by label value.
        quotas: masks to keep by label value.
        excluded: rows that a person excludes.
        seed: of the draws.
    """
    verdicts = Verdicts(
        percentiles=np.full((len(table), len(TERM_NAMES)), np.nan, np.float32),
        score=np.full(len(table), np.nan),
        rank=np.zeros(len(table), np.int64),
        reason=np.full(len(table), Reason.BELOW, np.uint8),
    )
    verdicts.reason[table["pixels"] < MIN_PIXELS] = Reason.TINY
    verdicts.reason[table["foreground"] > MAX_FOREGROUND] = Reason.WHOLE
    fit = usable(table)
    for value, places in group_by_value(table).items():
        peers = places[fit[places]]
        among_peers = percentiles(np.column_stack([table[name][peers] for name in TERM_NAMES]))
        verdicts.percentiles[peers], verdicts.score[peers] = among_peers, among_peers.mean(axis=1)
        ranked = peers[np.argsort(-verdicts.score[peers], kind="stable")]
        verdicts.rank[ranked] = np.arange(1, len(ranked) + 1)
        allowed = ranked[~excluded[ranked]]
        quota = min(quotas.get(value, 0), len(allowed))
        pool = allowed[: math.ceil(_POOL * quota)]
        draws = [derive_seed(seed, member, cases[row["case"]], int(row["slice"]), names[value]) for row in table[pool]]
        verdicts.reason[pool] = Reason.NOT_DRAWN
        verdicts.reason[pool[np.argsort(np.array(draws, np.int64), kind="stable")[:quota]]] = Reason.SELECTED
    verdicts.reason[excluded & fit] = Reason.EXCLUDED
    return verdicts


def _exactly(sizes: Mapping[Group, int], masks: int, total: int) -> dict[Group, int]:
    if not total:
        return dict.fromkeys(sizes, 0)
    exact = {group: masks * size / total for group, size in sizes.items()}
    least = 1 if masks >= sum(size > 0 for size in sizes.values()) else 0
    kept = {group: min(size, max(math.floor(exact[group]), least)) for group, size in sizes.items()}
    surplus = sum(kept.values()) - masks
    # Those of the largest remainder first; where classes of less than one took one, the largest classes give.
    for group in sorted(sizes, key=lambda one: (kept[one] - exact[one], one)):
        if surplus >= 0:
            break
        if kept[group] < sizes[group]:
            kept[group] += 1
            surplus += 1
    while surplus > 0:
        giver = max(sizes, key=lambda one: (kept[one], one))
        kept[giver] -= 1
        surplus -= 1
    return kept
