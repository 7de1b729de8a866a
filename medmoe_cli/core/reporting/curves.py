"""progress.png: a training's curves, redrawn after every epoch from log.jsonl alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.reporting.stage_marks import StageSpan, mark_stages, stage_spans
from medmoe_cli.core.reporting.variety import effective_number

# Colour-blind safe (Okabe and Ito), one per series wherever it appears.
_COLOURS = {
    "loss": "#000000",
    "dice": "#0072B2",
    "focal": "#D55E00",
    "bce": "#CC79A7",
    "cross_entropy": "#CC79A7",
    "score": "#009E73",
    "box": "#0072B2",
    "point": "#D55E00",
    "text": "#009E73",
    "none": "#CC79A7",
    "absent": "#E69F00",
    "automatic": "#0072B2",
}
_OTHER = ("#E69F00", "#56B4E9", "#999999", "#F0E442")
_KIND_NAMES = {
    "box": "box prompt",
    "point": "one point",
    "text": "class name",
    "none": "no prompt",
    "absent": "absent class, kept empty",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """What log.jsonl says: its lines by kind, in order."""

    steps: tuple[Mapping[str, Any], ...]
    epochs: tuple[Mapping[str, Any], ...]

    @property
    def stages(self) -> tuple[StageSpan, ...]:
        """In the order in which they trained."""
        return stage_spans((*self.steps, *self.epochs))


def read_log(path: Path) -> Curves:
    """Read log.jsonl; a last line that a crash cut short is left out.

    Raises:
        DataError: another line is no record.
    """
    steps: list[Mapping[str, Any]] = []
    epochs: list[Mapping[str, Any]] = []
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
            (epochs if record["kind"] == "epoch" else steps).append(record)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            fix = f"remove line {number}"
            raise DataError("not a training log", where=path, why=f"line {number} is no record", fix=fix) from error
    return Curves(steps=tuple(steps), epochs=tuple(epochs))


def draw_progress(log: Path, picture: Path, *, title: str, class_names: Mapping[int, str]) -> Path:
    """Draw losses, validation Dice by prompt kind, expert use, learning rate and epoch times into a PNG.

    Args:
        log: log.jsonl.
        picture: the PNG, replaced atomically.
        title: over the curves.
        class_names: by label value.

    Raises:
        ResourceError: the disk is full.
    """
    curves = read_log(log)
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    places = figure.subplots(2, 3)
    draw_losses(places[0, 0], curves)
    draw_dice(places[0, 1], curves)
    _classes(places[0, 2], curves, {str(value): name for value, name in class_names.items()})
    _rate(places[1, 0], curves)
    _routing(places[1, 1], curves)
    _times(places[1, 2], curves)
    with matplotlib.rc_context({"savefig.dpi": 100}):
        return atomic.replace_file(picture, lambda temporary: figure.savefig(temporary, format="png"))


def draw_losses(axes: Axes, curves: Curves) -> None:
    """The loss and its parts by step."""
    names = list(dict.fromkeys(name for epoch in curves.epochs for name in epoch["losses"] if name != "grad_norm"))
    names = [name for name in names if name == "loss" or len(names) > 2]
    rest = iter(_OTHER * 3)
    if curves.steps:
        axes.plot(
            [line["step"] for line in curves.steps],
            [line["losses"].get("loss") for line in curves.steps],
            color="#BBBBBB",
            linewidth=0.8,
            label="loss, 10 steps",
        )
    for name in names:
        axes.plot(
            [line["step"] for line in curves.epochs],
            [line["losses"].get(name) for line in curves.epochs],
            color=_COLOURS.get(name) or next(rest),
            linewidth=1.8 if name == "loss" else 1.0,
            marker=_marker(curves.epochs),
            label=name.removeprefix("aux_"),
        )
    _finish(axes, "training loss (weighted parts)", "step", "loss")
    mark_stages(axes, curves.stages, by="step")


def draw_dice(axes: Axes, curves: Curves) -> None:
    """Validation Dice by epoch, one line per way of asking, and the best epoch."""
    lines = [line for line in curves.epochs if line["validation"] is not None]
    kinds = list(dict.fromkeys(kind for line in lines for kind in line["validation"]["dice"]))
    for kind in kinds:
        axes.plot(
            [line["epoch"] for line in lines],
            [line["validation"]["dice"].get(kind) for line in lines],
            color=_COLOURS.get(kind, _OTHER[0]),
            marker=_marker(lines),
            label=_KIND_NAMES.get(kind, kind),
        )
    best = [line for line in lines if line["best"]]
    if best:
        epoch, score = best[-1]["epoch"], best[-1]["validation"]["score"]
        axes.axvline(epoch, color="#999999", linewidth=0.8, linestyle=":", label=f"best: {score:.3f} (epoch {epoch})")
    axes.set_ylim(0, 1)
    _finish(axes, "validation Dice per instance (network grid)", "epoch", "Dice")
    mark_stages(axes, curves.stages, by="epoch")


def draw_variety(axes: Axes, curves: Curves) -> None:
    """How many evenly used experts would be as varied, by epoch, one line per routed place."""
    places = list(dict.fromkeys(place for line in curves.epochs for place in line["routing"]))
    for number, place in enumerate(places):
        lines = [line for line in curves.epochs if line["routing"].get(place)]
        shares = [np.asarray(line["routing"][place], float) for line in lines]
        axes.plot(
            [line["step"] for line in lines],
            [effective_number(share) for share in shares],
            color=f"C{number % 10}",
            linestyle=("-", "--", ":")[number // 10 % 3],
            marker=_marker(lines),
            label=place,
        )
    axes.set_ylim(bottom=0)
    _finish(axes, "evenly used experts that would be as varied", "step", "experts")
    mark_stages(axes, curves.stages, by="step")


def _classes(axes: Axes, curves: Curves, names: Mapping[str, str]) -> None:
    lines = [line for line in curves.epochs if line["validation"] is not None]
    if lines:
        dice = lines[-1]["validation"]["by_class"]
        kinds = list(dice)
        values = sorted({value for kind in kinds for value in dice[kind]}, key=int)
        height = 0.8 / max(1, len(kinds))
        for place, kind in enumerate(kinds):
            axes.barh(
                np.arange(len(values)) + place * height,
                [dice[kind].get(value, 0) for value in values],
                height=height,
                color=_COLOURS.get(kind, _OTHER[0]),
                label=_KIND_NAMES.get(kind, kind),
            )
        axes.set_yticks(
            np.arange(len(values)) + height * (len(kinds) - 1) / 2, [names.get(value, value) for value in values]
        )
        axes.tick_params(axis="y", labelsize=7)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
    _finish(axes, "last validation by class", "Dice", "")


def _rate(axes: Axes, curves: Curves) -> None:
    lines = sorted((*curves.steps, *curves.epochs), key=lambda line: int(line["step"]))
    axes.plot([line["step"] for line in lines], [line["lr"] for line in lines], color="#000000", linewidth=1.2)
    if lines:
        axes.set_ylim(0, 1.1 * max(line["lr"] for line in lines))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _finish(axes, "learning rate", "step", "")
    mark_stages(axes, curves.stages, by="step")


def _routing(axes: Axes, curves: Curves) -> None:
    places = [place for line in curves.epochs[:1] for place in line["routing"]]
    if not places:
        axes.text(0.5, 0.5, "no routers", ha="center", va="center", transform=axes.transAxes, color="#777777")
        axes.set_axis_off()
        return
    last = curves.epochs[-1]["routing"]
    for row, place in enumerate(places):
        left = 0.0
        for expert, share in enumerate(last.get(place, [])):
            axes.barh(row, share, left=left, color=f"C{expert % 10}", edgecolor="white")
            if share > 0.06:
                axes.text(left + share / 2, row, f"{expert}\n{share:.0%}", ha="center", va="center", fontsize=7)
            left += share
    axes.set_yticks(range(len(places)), places)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    _finish(axes, "share of tokens per expert, last epoch", "share", "")


def _times(axes: Axes, curves: Curves) -> None:
    totals = [0.0, *(float(line["machine"]["seconds"]) for line in curves.epochs)]
    if curves.epochs:
        axes.bar([line["epoch"] for line in curves.epochs], np.diff(totals).tolist(), color="#56B4E9")
    _finish(axes, f"seconds per epoch ({totals[-1] / 60:.1f} min in all)", "epoch", "s")


def _marker(lines: Sequence[Mapping[str, Any]]) -> str:
    return "o" if len(lines) < 3 else ""


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)
