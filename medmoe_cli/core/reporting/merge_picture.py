"""report.png of a merged model: Dice per task, whom the selector chose, what each expert is worth, the tau curve."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from medmoe_cli.core.config.merge_report import GENERAL, MergeReport, TaskScore
from medmoe_cli.core.reporting.figures import new_figure, plain_axes, png_of
from medmoe_cli.core.reporting.palette import BALANCE_LINE, EXPERT, FAINT, INK

_MERGED = "#009E73"
_ROW_IN, _LEAST_IN, _LEGEND_IN = 0.32, 3.2, 0.5
_APART = 0.18  # rows
_NOTHING = 0.05  # Dice: smaller changes look small


def merge_picture(report: MergeReport) -> bytes:
    """The report as a PNG; equal reports give equal bytes."""
    ways = tuple(dict.fromkeys(score.way for score in report.tasks))
    most = max([sum(score.way == way for score in report.tasks) for way in ways], default=1)
    upper = max(_LEAST_IN, 1.2 + most * _ROW_IN)
    lower = max(_LEAST_IN, 1.6 + len(report.routing.owners) * _ROW_IN)
    figure = new_figure(12, upper + lower)
    halves = figure.add_gridspec(2, 1, height_ratios=[upper, lower])
    above = halves[0].subgridspec(1, max(len(ways), 1))
    for place, way in enumerate(ways):
        axes = figure.add_subplot(above[place])
        _dice(axes, [score for score in report.tasks if score.way == way], clicks=report.clicks, way=way)
    columns = 3 if report.tau_curve else 2
    below = halves[1].subgridspec(1, columns)
    places = [figure.add_subplot(below[place]) for place in range(columns)]
    _routing(places[0], report)
    _left_out(places[1], report)
    if report.tau_curve:
        _tau(places[2], report)
    return png_of(figure)


def _dice(axes: Axes, scores: list[TaskScore], *, clicks: int, way: str) -> None:
    """A line per task from the general model's Dice to the merged model's, the expert's beside it."""
    for row, score in enumerate(scores):
        axes.plot([score.general, score.merged], [row, row], color=FAINT, linewidth=2, zorder=1)
        # Each a little lower than the one before: equal values stay visible.
        axes.plot(score.general, row - _APART, "o", color=INK, label="general" if row == 0 else None, clip_on=False)
        if score.expert is not None:
            first = all(one.expert is None for one in scores[:row])
            label = "its expert" if first else None
            axes.plot(score.expert, row + _APART, "D", color=EXPERT, markersize=5, label=label, clip_on=False)
        label = "merged" if row == 0 else None
        axes.plot(score.merged, row, "s", color=_MERGED, markersize=5, label=label, clip_on=False)
    axes.set_yticks(
        range(len(scores)), [f"{score.task} ({score.n})" + _owner_mark(score) for score in scores], fontsize=8
    )
    axes.set_xlim(0, 1)
    title = f"{clicks} clicks" if way == "points" else "a box"
    plain_axes(axes, x="Dice, held-out cases", title=title)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    _legend_below(axes, columns=3)


def _routing(axes: Axes, report: MergeReport) -> None:
    counts = np.array(report.routing.counts, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, line in enumerate(report.routing.counts):
        for column, count in enumerate(line):
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    owners = report.routing.owners
    axes.set_xticks(range(len(owners)), owners, rotation=40 if len(owners) > 3 else 0, ha="center", fontsize=8)
    axes.set_yticks(range(len(owners)), owners, fontsize=8)
    axes.set_xlabel("the selector's choice", fontsize=10)
    axes.set_ylabel("whose task", fontsize=10)
    axes.set_title(f"queries, tau {report.tau:g}", fontsize=11)


def _left_out(axes: Axes, report: MergeReport) -> None:
    owners = report.routing.owners
    height = 0.8 / max(len(owners), 1)
    for place, owner in enumerate(owners):
        axes.barh(
            np.arange(len(report.left_out)) + place * height,
            [left.deltas.get(owner, 0.0) for left in report.left_out],
            height=height,
            color=INK if owner == GENERAL else f"C{place % 10}",
            label=f"tasks of {owner}",
        )
    axes.set_yticks(
        np.arange(len(report.left_out)) + 0.4 - height / 2, [f"without {left.expert}" for left in report.left_out]
    )
    axes.invert_yaxis()
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, -_NOTHING), max(right, _NOTHING))
    axes.axvline(0, color=FAINT, linewidth=0.8)
    plain_axes(axes, x="change of Dice", title="leaving one expert out")
    axes.tick_params(axis="y", labelsize=8)
    if len(owners) <= 8:
        _legend_below(axes, columns=2)


def _tau(axes: Axes, report: MergeReport) -> None:
    taus = [point.tau for point in report.tau_curve]
    axes.plot(taus, [point.dice for point in report.tau_curve], color=_MERGED, label="mean Dice")
    axes.plot(taus, [point.opened for point in report.tau_curve], color=EXPERT, label="share opened")
    axes.plot(taus, [-point.forgetting for point in report.tau_curve], color=BALANCE_LINE, label="Dice forgotten")
    axes.axvline(report.tau, color=FAINT, linewidth=1)
    plain_axes(axes, x="tau", title="choosing tau")
    axes.legend(fontsize=8, frameon=False)


def _legend_below(axes: Axes, *, columns: int) -> None:
    """A legend under the axis' name, whatever the axes' height."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(0, -_LEGEND_IN, figure.dpi_scale_trans)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, ncols=columns)


def _owner_mark(score: TaskScore) -> str:
    return "" if score.owner == GENERAL else f" · {score.owner}"
