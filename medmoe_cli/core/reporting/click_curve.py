"""Dice against the number of clicks: a line per class with its confidence band, and the mean over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medmoe_cli.core.base import atomic
from medmoe_cli.core.reporting.figures import new_figure, plain_axes, png_of
from medmoe_cli.core.reporting.palette import INK, class_colours

_MOST_BANDS = 4
_MOST_IN_A_COLUMN = 18
_MOST_TICKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickCurve:
    """Mean Dice after each number of clicks, the first after one.

    Attributes:
        name: of the class.
        value: its label value, which gives its colour; None for the mean over classes.
        means: NaN where nothing counts.
        intervals: 95 % confidence interval of each mean, None where there is none.
    """

    name: str
    value: int | None
    means: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...]


def draw_click_curves(path: Path, curves: Sequence[ClickCurve], *, title: str) -> Path:
    """Draw the curves into a PNG; equal curves give equal bytes.

    Raises:
        ResourceError: the disk is full.
    """
    figure = new_figure(7.5, 4.5)
    axes = figure.subplots()
    colours = class_colours(curve.value for curve in curves if curve.value is not None)
    banded = sum(curve.value is not None for curve in curves) <= _MOST_BANDS  # more would only hide one another
    for curve in curves:
        colour = INK if curve.value is None else colours[curve.value]
        _draw(axes, curve, colour=colour, band=curve.value is None or banded)
    plain_axes(axes, x="clicks per structure", y="Dice", title=title)
    clicks = max((len(curve.means) for curve in curves), default=1)
    axes.set_xlim(0.7, clicks + 0.3)
    axes.set_ylim(0, 1)
    if clicks > _MOST_TICKS:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xticks(range(1, clicks + 1))
    columns = math.ceil(len(curves) / _MOST_IN_A_COLUMN)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, ncols=columns)
    return atomic.write_bytes(path, png_of(figure))


def _draw(axes: Axes, curve: ClickCurve, *, colour: str, band: bool) -> None:
    clicks = list(range(1, len(curve.means) + 1))
    overall = curve.value is None
    axes.plot(
        clicks,
        curve.means,
        color=colour,
        linewidth=2.4 if overall else 1.4,
        linestyle="--" if overall else "-",
        marker="o",
        markersize=4,
        label=curve.name,
        zorder=3 if overall else 2,
    )
    known = [(click, pair) for click, pair in zip(clicks, curve.intervals, strict=True) if pair is not None]
    if len(known) == 1:
        click, (low, high) = known[0]
        axes.vlines(click, low, high, color=colour, linewidth=1)
    elif band and known:
        axes.fill_between(
            [click for click, _ in known],
            [low for _, (low, _) in known],
            [high for _, (_, high) in known],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
