"""A collection's members in a report: how good each is, by whose rules it is shown, and which experts it uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import MemberPlan, Plan
from medmoe_cli.core.config.routing_use import PlaceUse, RoutingUse
from medmoe_cli.core.reporting.numbers import DASH, count, listed, percent, ratio
from medmoe_cli.core.reporting.page import Block, Table, Text
from medmoe_cli.core.reporting.routing_use import place_words
from medmoe_cli.core.reporting.summary_file import SummaryRead
from medmoe_cli.core.reporting.variety import effective_number

_LEAST_SHARE = 0.1
_SEVERAL = 2


def member_scores(plan: Plan, summary: SummaryRead) -> tuple[Block, ...]:
    """A row per member: its cases and mean Dice over the classes that it labels; nothing for other datasets."""
    if not plan.members:
        return ()
    found: dict[str, list[float]] = defaultdict(list)
    for unit in summary.metric_per_case:
        mean = unit.mean("Dice")
        if mean is not None:
            found[unit.case.partition("/")[0]].append(mean)
    rows = tuple(
        (
            one.dataset,
            one.modality or DASH,
            str(one.num_cases),
            str(sum(unit.case.startswith(f"{one.dataset}/") for unit in summary.metric_per_case)),
            f"{len(set(one.classes.values()))} of {len(plan.labels)}",
            ratio(float(np.mean(found[one.dataset]))) if found[one.dataset] else DASH,
        )
        for one in plan.members
    )
    return (
        Table(
            caption="By member of the collection",
            columns=("Member", "Modality", "Cases", "Validated", "Structures labelled", "Mean Dice per case"),
            rows=rows,
            note="A structure that a member does not label counts neither for nor against the model there.",
        ),
    )


def member_rules(plan: Plan) -> tuple[Block, ...]:
    """How each member's images are shown."""
    if not plan.members:
        return ()
    keys = {"slice_axis": "Slices along", "normalization": "Intensities", "channels": "Channels"}
    return (
        Table(
            caption="Each member's own rules",
            columns=("Member", *keys.values()),
            rows=tuple((one.dataset, *(one.plan.reasons.get(key, DASH) for key in keys)) for one in plan.members),
            numbers=False,
        ),
    )


def member_routing(plan: Plan, use: RoutingUse) -> tuple[Block, ...]:
    """For each routed place the experts' shares by member, and whether any is left without work by a modality."""
    if not plan.members:
        return ()
    blocks: list[Block] = []
    for name, place in use.places.items():
        shares = _by_member(plan.members, place)
        if len(shares) < _SEVERAL:
            continue
        what = place.item if place.kind == "experts choose" else "expert"
        number = len(next(iter(shares.values())))
        blocks.append(
            Table(
                caption=f"{place_words(name)}, by member",
                columns=("Member", *(f"{what} {index + 1}" for index in range(number)), "as varied as"),
                rows=tuple(
                    (_titled(plan, member), *(percent(float(share)) for share in row), f"{effective_number(row):.1f}")
                    for member, row in shares.items()
                ),
                note=f"'As varied as' counts how many evenly used {what}s would be as varied.",
            )
        )
        blocks.append(Text(text=_balance(place_words(name), what, shares)))
    return tuple(blocks)


def _by_member(members: Sequence[MemberPlan], place: PlaceUse) -> dict[str, NDArray[np.float64]]:
    """Each expert's (or item's) share of the choices, by member that has any."""
    found = {}
    for one in members:
        rows = [counts for case, counts in place.cases.items() if case.startswith(f"{one.dataset}/")]
        if not rows:
            continue
        total = np.sum([np.asarray(row, float) for row in rows], axis=0)
        total = total.sum(axis=0) if total.ndim == _SEVERAL else total
        found[one.dataset] = total / max(float(total.sum()), 1e-12)
    return found


def _titled(plan: Plan, member: str) -> str:
    modality = plan.member(member).modality
    return f"{member} ({modality})" if modality else member


def _balance(place: str, what: str, shares: Mapping[str, NDArray[np.float64]]) -> str:
    """Over the members alike, however many cases each has."""
    mean = np.mean(list(shares.values()), axis=0)
    least = int(mean.argmin())
    idle = [str(index + 1) for index in range(len(mean)) if mean[index] < _LEAST_SHARE]
    text = f"{place}: over the members alike, {what} {least + 1} has least, {percent(float(mean[least]))} of the work"
    if not idle:
        return f"{text}; no {what} has less than 10 %."
    return f"{text}; less than 10 % {'has' if len(idle) == 1 else 'have'} {count(len(idle), what)}: {listed(idle)}."
