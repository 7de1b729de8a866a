"""`medmoe plan`: what the data decide, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmoe_cli.commands.arguments import Assignments, Data, PlannedDevice, Preset, Workers
from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.console import Console
    from medmoe_cli.core.workflows.plan import PlanResult

_KEYS = (
    "slice_axis",
    "input_size",
    "context_slices",
    "spacing_mm",
    "normalization",
    "channels",
    "labels",
    "class_prompts",
    "binary",
    "mirror_axes",
    "mirror_swaps",
    "batch_size",
    "num_experts",
)
_MEMBER_KEYS = ("slice_axis", "normalization", "channels", "mirror_axes", "labels")


def plan(
    context: typer.Context,
    data: Data,
    method: Annotated[str, typer.Option(help="The method to plan for, for instance moe-sam.")],
    preset: Preset = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print the reason of every value, one line each.")] = False,
    assignments: Assignments = None,
    device: PlannedDevice = "auto",
    workers: Workers = None,
) -> None:
    """Measure a dataset (fingerprint.json) and decide slice axis, input size, intensities, batch and more (a plan).

    The fingerprint is measured once and again only when the files change.

    Example: medmoe plan btcv --method segmote --explain
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.plan import run_plan

    result = run_plan(
        workspace=session.workspace,
        data=data,
        method=method,
        preset=preset,
        assignments=assignments or [],
        device=device,
        workers=workers,
        reporter=session.console,
    )
    console = session.console
    console.json(result)
    decided = result.plan
    if explain:
        for key in _KEYS:
            if key in decided.reasons:
                console.print(f"{key}: {decided.reasons[key]}")
        for about, reason in result.method_reasons.items():
            console.print(f"{about}: {reason}")
    else:
        console.table(
            f"plan of {decided.dataset} for {decided.method}, preset {decided.preset}",
            ["value", "decided"],
            [[key, _short(decided, key)] for key in _KEYS if key in decided.reasons],
        )
    _show_members(console, result, explain=explain)
    console.print(
        f"{result.num_cases} cases of {result.num_patients} patients, {result.num_folds} folds; "
        f"fingerprint {'measured' if result.measured else 'still true'}; plan in {result.plan_file}"
    )
    if result.preset_why:
        console.info(f"preset {decided.preset}: {result.preset_why}")
    console.next_command(f"medmoe train --method {method} --data {data} --preset {preset or decided.preset}")


def _show_members(console: Console, result: PlanResult, *, explain: bool) -> None:
    """What a collection's plan says of each member."""
    if not result.members:
        return
    if explain:
        for one in result.plan.members:
            for key in _MEMBER_KEYS:
                if key in one.plan.reasons:
                    console.print(f"{one.dataset}: {key}: {one.plan.reasons[key]}")
    rows = []
    for one, counted in zip(result.plan.members, result.members, strict=True):
        rows.append(
            [
                one.dataset,
                one.modality or "?",
                f"{counted.num_cases} of {counted.num_patients} patients",
                f"{counted.num_classes} of {len(result.plan.labels)}",
                "xyz"[one.plan.slice_axis],
                _short(one.plan, "normalization"),
            ]
        )
    console.table("members", ["dataset", "modality", "cases", "classes labelled", "slice axis", "intensities"], rows)


def _short(decided: Any, key: str) -> str:
    """A value for the table."""
    if key == "slice_axis" and decided.members:
        return "each member's own"
    if key == "slice_axis":
        return "xyz"[decided.slice_axis]
    if key == "channels":
        return str(len(decided.channels))
    if key == "normalization" and decided.members:
        return "each member's own"
    if key == "normalization":
        return ", ".join(
            f"{channel.name}: {channel.normalization}"
            + (f" {channel.low:g} to {channel.high:g}" if channel.low is not None else "")
            for channel in decided.channels
        )
    if key == "labels":
        return ", ".join(f"{value} {name}" for name, value in decided.labels.items())
    if key == "class_prompts":
        return ", ".join(decided.class_prompts[name] for name in decided.labels)
    if key == "mirror_swaps":
        names = {value: name for name, value in decided.labels.items()}
        pairs = dict.fromkeys(pair for swaps in decided.mirror_swaps.values() for pair in swaps)
        return ", ".join(f"{names[one]} and {names[other]}" for one, other in pairs)
    value = getattr(decided, key)
    if value is None:
        return "own grid"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value) or "none"
    return str(value)
