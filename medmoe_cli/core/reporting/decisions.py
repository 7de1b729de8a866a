"""What the planner decided from the data, in plain words, and the rules applied after prediction."""

from __future__ import annotations

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.reporting.numbers import count, listed
from medmoe_cli.core.reporting.page import Block, Missing, Table, Text

_QUESTIONS = {
    "slice_axis": "Slices",
    "context_slices": "Neighbouring slices shown with each",
    "input_size": "Size of the network's picture",
    "spacing_mm": "Voxel size",
    "normalization": "Grey values",
    "channels": "Channels the network sees",
    "labels": "Structures",
    "class_prompts": "Words for the structures",
    "binary": "One structure only",
    "mirror_axes": "Mirrored pictures in training",
    "batch_size": "Pictures per step",
    "num_experts": "Experts",
}
_PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}


def decision_blocks(plan: Plan) -> tuple[Block, ...]:
    """Every decided value with its reason."""
    if not plan.reasons:
        return (Missing(part="the planner's reasons", why="plan.json has none."),)
    order = [key for key in _QUESTIONS if key in plan.reasons]
    order += [key for key in plan.reasons if key not in _QUESTIONS]
    rows = tuple((_QUESTIONS.get(key, key.replace("_", " ")), _value(plan, key), _why(plan, key)) for key in order)
    return (
        Table(
            caption="Decided from the data (unless it was set by hand) before training began",
            columns=("What", "Decision", "Why"),
            rows=rows,
            numbers=False,
        ),
    )


def rule_blocks(rules: Postprocessing | None) -> tuple[Block, ...]:
    """The rules applied to predicted masks; None where the run has no such file."""
    if rules is None:
        why = "The run has no postprocessing.json: masks are kept as they are predicted."
        return (Missing(part="post-processing rules", why=why),)
    if not rules.rules:
        return (Text(text="None: masks are kept as they are predicted; no rule was found to help."),)
    said = {"largest": "only its largest connected part is kept, the rest becomes background"}
    rows = tuple((rule.label.replace("_", " "), said[rule.keep], rule.reason) for rule in rules.rules)
    return (
        Table(
            caption="Applied to every predicted mask, learned from the training labels",
            columns=("Structure", "Rule", "Why"),
            rows=rows,
            numbers=False,
        ),
    )


def _value(plan: Plan, key: str) -> str:
    match key:
        case "channels":
            return str(len(plan.channels))
        case "slice_axis" if plan.members:
            return "each member's own"
        case "slice_axis":
            return f"{_PLANES[plan.slice_axis]} ({'xyz'[plan.slice_axis]})"
        case "context_slices":
            return f"{plan.context_slices} on each side" if plan.context_slices else "none"
        case "input_size":
            return " × ".join([str(plan.input_size)] * plan.dims) + (" pixels" if plan.dims == 2 else " voxels")
        case "spacing_mm":
            size = plan.spacing_mm
            return "as scanned" if size is None else " × ".join(f"{side:.3g}" for side in size) + " mm"
        case "normalization":
            return "each member's own" if plan.members else "; ".join(_window(channel) for channel in plan.channels)
        case "labels":
            return listed([name.replace("_", " ") for name in plan.class_names], limit=16)
        case "class_prompts":
            return listed([plan.class_prompts[name] for name in plan.class_names], limit=16)
        case "binary":
            return "yes" if plan.binary else "no"
        case "mirror_axes":
            return " and ".join(plan.mirror_axes) or "none"
        case "batch_size" | "num_experts":
            return str(getattr(plan, key))
        case _:
            value = getattr(plan, key, None)
            return "" if value is None else str(value)


def _window(channel: ChannelPlan) -> str:
    if channel.normalization == "ct":
        return f"{channel.name}: window {channel.low:.4g} to {channel.high:.4g}"
    said = {
        "percentile": "each scan's own range",
        "rgb": "colours as they are",
        "zscore": "each scan's own mean and deviation",
        "none": "unchanged",
    }
    return f"{channel.name}: {said[channel.normalization]}"


def _why(plan: Plan, key: str) -> str:
    """The reason without the value that it begins with, which the table has already."""
    reason = plan.reasons[key].replace("set by the preset or --set", "set by hand, in the preset or with --set")
    head, colon, rest = reason.partition(": ")
    known = {str(getattr(plan, key, "")), "xyz"[plan.slice_axis], "yes", "no", "none", "both"}
    return rest if colon and head in known else reason


def structures(plan: Plan) -> str:
    """'2 structures: anterior, posterior'."""
    return f"{count(len(plan.labels), 'structure')}: {_value(plan, 'labels')}"
