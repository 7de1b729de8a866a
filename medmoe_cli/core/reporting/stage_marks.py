"""A training's stages on its curves: one shaded band each, with its name above the frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes

_BAND = "#000000"
_NARROW = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpan:
    """Where a stage lies in a training, by the lines of its log.

    Attributes:
        name: of the stage.
        step: the last one.
        epoch: the last one.
    """

    name: str
    step: int
    epoch: int


def stage_spans(lines: Iterable[Mapping[str, Any]]) -> tuple[StageSpan, ...]:
    """The stages in order; of a log in which a stage left no line, without that stage."""
    found: list[StageSpan] = []
    for line in sorted(lines, key=lambda line: int(line["step"])):
        span = StageSpan(name=str(line["stage"]), step=int(line["step"]), epoch=int(line["epoch"]))
        if found and found[-1].name == span.name:
            found.pop()
        found.append(span)
    return tuple(found)


def mark_stages(axes: Axes, spans: tuple[StageSpan, ...], *, by: Literal["step", "epoch"]) -> None:
    """Shade every second stage and name them all above the frame; nothing where there is one stage.

    Call it when everything is drawn: the marks change no limits.
    """
    ends = [span.step if by == "step" else span.epoch for span in spans]
    if len(spans) < 2:
        return
    low, high = axes.get_xlim()
    edges = [low, *ends[:-1], high]
    for place, span in enumerate(spans):
        left, right = max(edges[place], low), min(edges[place + 1], high)
        if place % 2:
            axes.axvspan(left, right, color=_BAND, alpha=0.06, linewidth=0, zorder=0)
        narrow = right - left < _NARROW * (high - low)
        last = place == len(spans) - 1
        where, side = ((right, "right") if last else (left, "left")) if narrow else ((left + right) / 2, "center")
        axes.text(
            where, 1.01, span.name, transform=axes.get_xaxis_transform(), ha=side, va="bottom", fontsize=7.5,
            color="#555555",
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_title(axes.get_title(), fontsize=axes.title.get_fontsize(), pad=15)
