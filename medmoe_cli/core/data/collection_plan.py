"""The plan of a collection: each member's own fingerprint, slice axis and intensity rule; one network for all.

What must be one is decided for all: the input size (the largest that a member would choose, so that none loses
detail), the spacing of 3D methods (the median over the members), the neighbours shown, and the channels: three where a
member is in colour, else as many as the member with most. A member with fewer is repeated in turn; of one with more
the first are shown, or those that `plan.member_channels` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.jsonio import plain
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.fingerprint import CaseFacts, Fingerprint
from medmoe_cli.core.config.plan import ChannelPlan, MemberPlan, Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.dataset import Dataset, Member
from medmoe_cli.core.data.planner import GIB, make_plan

_COLOURS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drafted:
    """A member and the plan it would have by itself, but for what is one for all."""

    member: Member
    fingerprint: Fingerprint
    overrides: PlanConfig
    plan: Plan

    @property
    def is_colour(self) -> bool:
        channels = self.plan.channels
        return len(channels) == _COLOURS and all(channel.normalization == "rgb" for channel in channels)


def make_collection_plan(
    *,
    dataset: Dataset,
    fingerprints: Mapping[str, Fingerprint],
    card: Card,
    method: str,
    preset: str,
    overrides: PlanConfig,
    memory_bytes: int = 16 * GIB,
    cuda: bool = False,
) -> Plan:
    """Decide everything that the members' data decide; as `make_plan`.

    Args:
        dataset: the collection.
        fingerprints: by member.
        card, method, preset, overrides, memory_bytes, cuda: as in `make_plan`. What is set holds for every member.

    Raises:
        ConfigError: pictures for a 3D method, channels that a member does not have, a slice axis against which a
            selection counts slices, or what `make_plan` refuses of a member.
        DataError: a fingerprint does not hold what a channel's normalisation needs.
    """
    _check(dataset, fingerprints, card, overrides)
    planning = {"card": card, "method": method, "preset": preset, "memory_bytes": memory_bytes, "cuda": cuda}
    drafts = [_draft(one, fingerprints[one.name], overrides, planning) for one in dataset.members]
    size, size_why = _input_size(drafts, overrides)
    spacing, spacing_why = _spacing(drafts, overrides)
    number, number_why = _num_channels(drafts)
    context = max(draft.plan.context_slices for draft in drafts)
    fixed = {"input_size": size, "spacing_mm": spacing}
    members = []
    for draft in drafts:
        own = make_plan(
            dataset=draft.member.dataset,
            fingerprint=draft.fingerprint,
            overrides=draft.overrides.model_copy(update=fixed),
            **planning,  # type: ignore[arg-type]
        )
        shown, shown_why = _shown(draft, number, overrides)
        reasons = own.reasons | {"input_size": f"{size}: one for all members", "channels": shown_why}
        if spacing is not None:
            reasons["spacing_mm"] = "one for all members"
        members.append(_member_plan(draft, own.model_copy(update={"context_slices": context, "shown": shown}), reasons))
    widest = max(members, key=lambda one: (min(len(one.plan.channels), number), one.num_cases))
    joint = joint_fingerprint(dataset, fingerprints, {one.dataset: one.plan for one in members})
    source = dataset.member(widest.dataset).dataset
    base = make_plan(
        dataset=replace(dataset, channels=source.channels, file_ending=source.file_ending),
        fingerprint=joint.model_copy(update={"foreground": fingerprints[widest.dataset].foreground}),
        overrides=overrides.model_copy(
            update={
                **fixed,
                "slice_axis": "z",
                "mirror": "off",
                "normalization": "zscore" if card.dims == 3 else "percentile",  # each member has its own
                "context_slices": 0,
            }
        ),
        **planning,  # type: ignore[arg-type]
    )
    largest = max(members, key=lambda one: one.num_cases)
    mirror_axes = _mirror_axes(members)
    reasons = base.reasons | {
        "input_size": size_why,
        "spacing_mm": spacing_why,
        "slice_axis": "each member's own: "
        + ", ".join(f"{one.dataset} {'xyz'[one.plan.slice_axis]}" for one in members),
        "normalization": "each member's own, as listed by member",
        "channels": number_why,
        "context_slices": largest.plan.reasons.get("context_slices", "") if context else "0: each slice is shown alone",
        "mirror_axes": f"{', '.join(mirror_axes) or 'none'} in prediction: what every member allows; each member its "
        "own in training",
    }
    return base.model_copy(
        update={
            "slice_axis": largest.plan.slice_axis,
            "channels": _network_channels(widest.plan),
            "context_slices": context,
            "mirror_axes": mirror_axes,
            "fingerprint_sha256": value_sha256([one.plan.fingerprint_sha256 for one in members]),
            "reasons": reasons,
            "members": tuple(members),
        }
    )


def joint_fingerprint(
    dataset: Dataset, fingerprints: Mapping[str, Fingerprint], plans: Mapping[str, Plan]
) -> Fingerprint:
    """What is true of all members together: their cases, slices along z, with the collection's label values."""
    cases: dict[str, CaseFacts] = {}
    for member in dataset.members:
        own, axis = fingerprints[member.name], plans[member.name].slice_axis
        values = {member.dataset.labels[name]: dataset.labels[common] for name, common in member.classes.items()}
        order = [*(other for other in range(3) if other != axis), axis]
        for case, facts in own.cases.items():
            voxels: dict[int, int] = {}
            for value, count in facts.voxels_per_label.items():
                if value in values:
                    voxels[values[value]] = voxels.get(values[value], 0) + count
            x, y, z = order
            cases[member.case_id(case)] = CaseFacts(
                shape=(facts.shape[x], facts.shape[y], facts.shape[z]),
                spacing_mm=(facts.spacing_mm[x], facts.spacing_mm[y], facts.spacing_mm[z]),
                voxels_per_label=voxels,
            )
    shape = np.median([case.shape for case in cases.values()], axis=0).tolist()
    spacing = np.median([case.spacing_mm for case in cases.values()], axis=0).tolist()
    return Fingerprint(
        dataset=dataset.name,
        num_cases=len(cases),
        num_channels=max(one.num_channels for one in fingerprints.values()),
        dimensionality=max(one.dimensionality for one in fingerprints.values()),
        median_shape=(shape[0], shape[1], shape[2]),
        median_spacing_mm=(spacing[0], spacing[1], spacing[2]),
        foreground={},
        cases=cases,
        inputs_sha256=value_sha256([fingerprints[member.name].inputs_sha256 for member in dataset.members]),
    )


def _check(dataset: Dataset, fingerprints: Mapping[str, Fingerprint], card: Card, overrides: PlanConfig) -> None:
    problems: list[MedMoEError] = []
    names = [member.name for member in dataset.members]
    for member in dataset.members:
        if card.dims == 3 and fingerprints[member.name].dimensionality == 2:
            problems.append(
                ConfigError(
                    f"member '{member.name}' is of pictures",
                    where=dataset.name,
                    why=f"{card.title or card.name} takes volumes",
                    fix="medmoe convert collection --name NAME --members VOLUMES,...",
                )
            )
        chosen = overrides.slice_axis
        if member.selection is not None and chosen != "auto" and member.slice_axis not in (None, chosen):
            problems.append(
                ConfigError(
                    f"plan.slice_axis={chosen} does not go with the selection of '{member.name}'",
                    where=dataset.name,
                    why=f"its slices are counted along {member.slice_axis}",
                    fix="--set plan.slice_axis=auto",
                )
            )
        places = overrides.member_channels.get(member.name, ())
        beyond = [place for place in places if not 0 <= place < len(member.dataset.channels)]
        if beyond:
            problems.append(
                ConfigError(
                    f"member '{member.name}' has no channel {beyond[0]}",
                    where="plan.member_channels",
                    why=f"its channels are 0 to {len(member.dataset.channels) - 1}: "
                    f"{', '.join(member.dataset.channels)}",
                    fix="correct plan.member_channels",
                )
            )
    problems += [
        ConfigError(f"unknown member '{name}'", where="plan.member_channels", why=did_you_mean(name, names))
        for name in overrides.member_channels
        if name not in names
    ]
    raise_all(problems)


def _draft(member: Member, fingerprint: Fingerprint, overrides: PlanConfig, planning: Mapping[str, object]) -> _Drafted:
    own = overrides.model_copy(update={"slice_axis": member.slice_axis} if member.slice_axis else {})
    plan = make_plan(dataset=member.dataset, fingerprint=fingerprint, overrides=own, **planning)  # type: ignore[arg-type]
    return _Drafted(member=member, fingerprint=fingerprint, overrides=own, plan=plan)


def _input_size(drafts: list[_Drafted], overrides: PlanConfig) -> tuple[int, str]:
    size = max(draft.plan.input_size for draft in drafts)
    if overrides.input_size is not None:
        return size, f"{size}: set by the preset or --set"
    whose = ", ".join(f"{draft.member.name} {draft.plan.input_size}" for draft in drafts)
    return size, f"{size}: the largest that a member would choose ({whose})"


def _spacing(drafts: list[_Drafted], overrides: PlanConfig) -> tuple[tuple[float, float, float] | None, str]:
    found = [draft.plan.spacing_mm for draft in drafts if draft.plan.spacing_mm is not None]
    if not found:
        return None, "none: a 2D method keeps each slice's own grid"
    x, y, z = np.median(found, axis=0).tolist()
    said = f"{x:.4g}x{y:.4g}x{z:.4g} mm"
    return (x, y, z), f"{said}: set by the preset or --set" if overrides.spacing_mm else (
        f"{said}: the median of what the members would choose"
    )


def _num_channels(drafts: list[_Drafted]) -> tuple[int, str]:
    colour = next((draft.member.name for draft in drafts if draft.is_colour), None)
    if colour is not None:
        return _COLOURS, f"3: {colour} is in colour"
    widest = max(drafts, key=lambda draft: len(draft.plan.channels))
    number = len(widest.plan.channels)
    return number, f"{number}: as many as {widest.member.name} has" if number > 1 else "1: no member has more"


def _shown(draft: _Drafted, number: int, overrides: PlanConfig) -> tuple[tuple[int, ...], str]:
    """Which of the member's channels the network sees, and why."""
    names = draft.member.dataset.channels
    own = len(draft.plan.channels)
    chosen = overrides.member_channels.get(draft.member.name)
    if chosen is not None:
        places = chosen
        why = "set by the preset or --set"
    elif own > number:
        places, why = tuple(range(number)), f"the first {number} of {own}; plan.member_channels chooses others"
    else:
        places, why = tuple(range(own)), "all" if own == number else f"repeated to {number}"
    shown = tuple(places[place % len(places)] for place in range(number))
    return shown, f"{', '.join(names[place] or str(place) for place in shown)}: {why}"


def _member_plan(draft: _Drafted, plan: Plan, reasons: Mapping[str, str]) -> MemberPlan:
    member = draft.member
    return MemberPlan(
        dataset=member.name,
        modality=member.dataset.modality,
        dimensionality=draft.fingerprint.dimensionality,
        num_cases=draft.fingerprint.num_cases,
        classes=dict(member.classes),
        weight=member.weight,
        selection_sha256=None if member.selection is None else value_sha256(plain(member.selection)),
        plan=plan.model_copy(update={"reasons": dict(reasons)}),
    )


def _network_channels(widest: Plan) -> tuple[ChannelPlan, ...]:
    return tuple(widest.channels[place] for place in widest.shown)


def _mirror_axes(members: list[MemberPlan]) -> tuple[str, ...]:
    """Axes that every member mirrors without classes changing places."""
    axes = members[0].plan.mirror_axes
    return tuple(
        axis
        for axis in axes
        if all(axis in one.plan.mirror_axes and not one.plan.mirror_swaps.get(axis) for one in members)
    )
