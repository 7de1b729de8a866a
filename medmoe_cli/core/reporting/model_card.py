"""MODEL_CARD.md and LICENSE of a model that is shared: what it is, what it saw, how well it did, how to use it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from medmoe_cli.core.config.backbones import BackboneFacts
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.reporting.summary_file import StatisticRead, SummaryRead

_METRICS = ("Dice", "HD95", "NSD")
_NORMALIZATION = {
    "ct": "clipped to {low:g} .. {high:g}, scaled to 0 .. 1",
    "percentile": "each image's own 0.5 to 99.5 percentiles, scaled to 0 .. 1",
    "rgb": "divided by 255",
    "none": "as it is",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """What is known of the dataset a model was trained on; '' and None where it is not known."""

    name: str
    description: str = ""
    reference: str = ""
    licence: str = ""
    modality: str = ""
    num_training: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What a model card tells.

    Attributes:
        name: of the model.
        card: its method's.
        plan: of its data.
        data: the dataset.
        prompt_kinds: what it answers.
        parameters: of the network.
        open_vocabulary: it may be asked for by any words.
        experts: names of the experts that were merged into it.
        backbone: whose weights it began with; None for random ones.
        summary: of its validation cases; None without.
        medmoe: version that wrote it.
        weights_sha256: of model.safetensors.
    """

    name: str
    card: Card
    plan: Plan
    data: TrainingData
    prompt_kinds: tuple[str, ...]
    parameters: int
    open_vocabulary: bool = False
    experts: tuple[str, ...] = ()
    backbone: BackboneFacts | None = None
    summary: SummaryRead | None = None
    medmoe: str
    weights_sha256: str


def model_card(facts: ModelFacts) -> str:
    """The card as Markdown."""
    parts = [
        [f"# {facts.name}", "", f"{facts.card.title}: {facts.card.summary}."],
        _model(facts),
        _data(facts),
        _classes(facts),
        _numbers(facts),
        _use(facts),
        _limits(facts),
        ["## Licence", "", "See LICENSE in this folder.", *(f"- {line}" for line in _origins(facts))],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def licence_text(facts: ModelFacts) -> str:
    """LICENSE for a model whose sharer gave none: where its parts come from; the right to share is the sharer's."""
    lines = [
        f"Licence of the model '{facts.name}'",
        "",
        "These weights were derived from the works below, whose licences apply to them:",
        "",
        *(f"- {line}" for line in _origins(facts)),
        "",
        "Whoever shares the model states further terms here. It comes without warranty of any kind and is not a",
        "medical device.",
    ]
    return "\n".join(lines) + "\n"


def _origins(facts: ModelFacts) -> list[str]:
    lines = [f"medmoe {facts.medmoe}, which made them: {facts.card.licence}"]
    if facts.backbone is not None:
        lines.append(f"{facts.backbone.title} ({facts.backbone.source}): {facts.backbone.licence}")
    lines.append(f"the dataset '{facts.data.name}': {facts.data.licence or 'licence not recorded'}")
    return lines


def _model(facts: ModelFacts) -> list[str]:
    plan = facts.plan
    size = f"{plan.input_size} x {plan.input_size}" + (f" x {plan.input_size}" if plan.dims == 3 else "")
    lines = [
        "## Model",
        "",
        f"- method: {facts.card.name}",
        f"- paper: {facts.card.paper}",
        f"- preset: {plan.preset}",
        f"- input: {plan.dims}D, {size}",
        f"- parameters: {facts.parameters:,}",
        f"- answers: {', '.join(_prompt_words(facts.prompt_kinds))}",
    ]
    if facts.open_vocabulary:
        lines.append("- any other words may be asked for too; what it makes of them nobody has measured")
    if plan.spacing_mm is not None:
        lines.append(f"- spacing: {' x '.join(f'{side:g}' for side in plan.spacing_mm)} mm")
    if facts.experts:
        lines.append(f"- experts: {', '.join(facts.experts)}")
    lines.append(f"- weights sha256: {facts.weights_sha256}")
    return lines


def _data(facts: ModelFacts) -> list[str]:
    data = facts.data
    lines = ["## Training data", "", f"- dataset: {data.name}"]
    for name, value in (
        ("description", data.description),
        ("modality", data.modality),
        ("reference", data.reference),
        ("licence", data.licence),
    ):
        if value:
            lines.append(f"- {name}: {_line(value)}")
    if data.num_training is not None:
        lines.append(f"- cases: {data.num_training}, some of them held out as the fold says")
    if not facts.plan.members:
        return lines + _channels(facts.plan.channels, "")
    for member in facts.plan.members:
        modality = _line(member.modality) or "modality unknown"
        lines.append(f"- member {_line(member.dataset)}: {member.num_cases} cases, {modality}")
        lines += _channels(member.plan.channels, "  ")
    return lines


def _channels(channels: Sequence[ChannelPlan], indent: str) -> list[str]:
    lines = []
    for channel in channels:
        how = _NORMALIZATION.get(channel.normalization, channel.normalization)
        how = how.format(low=channel.low or 0.0, high=channel.high or 0.0)
        lines.append(f"{indent}- channel '{_line(channel.name)}': {how}")
    return lines


def _classes(facts: ModelFacts) -> list[str]:
    lines = ["## Classes", "", "| value | class | asked for as |", "| --- | --- | --- |"]
    for name, value in facts.plan.file_names.items():
        lines.append(f"| {value} | {_cell(name)} | {_cell(facts.plan.class_prompts.get(name, name))} |")
    return lines


def _numbers(facts: ModelFacts) -> list[str]:
    if facts.summary is None:
        return ["## Numbers", "", "None were recorded with the weights."]
    summary = facts.summary
    shown = [name for name in _METRICS if name in summary.overall]
    rows: list[tuple[str, Sequence[StatisticRead]]] = [
        (found.name, [found.metrics[name] for name in shown]) for found in summary.classes.values()
    ]
    if len(rows) > 1:
        rows.append(("all", [summary.overall[name] for name in shown]))
    lines = [
        "## Numbers",
        "",
        f"On {summary.n_cases} held-out cases of the training dataset, at their own resolution, with 95 % confidence",
        f"intervals over patients; convention '{summary.convention.name}'.",
        "",
        f"| class | {' | '.join(shown)} | n |",
        f"| --- |{' --- |' * (len(shown) + 1)}",
    ]
    for name, statistics in rows:
        cells = " | ".join(_statistic(statistic) for statistic in statistics)
        lines.append(f"| {_cell(name)} | {cells} | {statistics[0].n_used if statistics else 0} |")
    return lines


def _use(facts: ModelFacts) -> list[str]:
    promptless = {"none", "text"} & set(facts.prompt_kinds)
    prompted = "" if promptless else " --prompts prompts.json"
    by_name = []
    if "text" in facts.prompt_kinds and facts.plan.labels and not facts.experts:
        words = facts.plan.class_prompts.get(facts.plan.class_names[0], facts.plan.class_names[0])
        by_name = [f"medmoe predict -i SCANS -o MASKS -m {facts.name} --text {shlex.quote(_line(words))}"]
    return [
        "## How to use",
        "",
        "```",
        f"medmoe models import PATH --name {facts.name}",
        f"medmoe predict -i SCANS -o MASKS -m {facts.name}{prompted}",
        *by_name,
        "medmoe evaluate -p MASKS -g REFERENCES",
        "```",
        "",
        "Masks are written in each scan's own geometry. Loading the model runs no code: it is tensors and JSON.",
    ]


def _limits(facts: ModelFacts) -> list[str]:
    return [
        "## Limits",
        "",
        "For research. It is no medical device, and nobody has tested it on scanners, protocols, ages or diseases that",
        f"'{_line(facts.data.name)}' does not show."
        + (" The numbers above are of that dataset alone." if facts.summary is not None else ""),
    ]


def _prompt_words(kinds: Sequence[str]) -> list[str]:
    words = {"none": "no prompt at all", "text": "class names", "point": "points", "box": "boxes", "mask": "masks"}
    return [words.get(kind, kind) for kind in kinds]


def _statistic(value: StatisticRead) -> str:
    if value.mean is None:
        return "–"
    interval = "" if value.ci95 is None else f" ({value.ci95[0]:.3f}–{value.ci95[1]:.3f})"
    return f"{value.mean:.3f}{interval}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
