"""A case on a few slices: the scan, both outlines, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from medmoe_cli.core.reporting.figures import new_figure, png_of
from medmoe_cli.core.reporting.overlay import stretch
from medmoe_cli.core.reporting.palette import EXTRA, INK, MISSED, MIXED_UP

_PANEL_IN = 3.3
_MARGIN_SHARE = 0.3
_SMALLEST_VIEW_MM = 40.0
_DASHES = (0, (3, 1.6))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """Letters at a picture's edges: where the patient's right, front, ... are; '' where that is unknown."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseSlice:
    """One slice as it is shown.

    Attributes:
        title: for instance 'slice 17 of 40'.
        picture: (rows, columns) grey or (rows, columns, 3) colour, any range.
        reference: (rows, columns) label values.
        prediction: the same.
        pixel_mm: height and width of a pixel.
        sides: letters at the edges.
    """

    title: str
    picture: NDArray[np.floating]
    reference: NDArray[np.integer]
    prediction: NDArray[np.integer]
    pixel_mm: tuple[float, float]
    sides: Sides


def most_wrong(reference_SHW: NDArray[np.integer], prediction_SHW: NDArray[np.integer], *, limit: int) -> list[int]:
    """Up to `limit` slices with the most pixels that differ, in slice order; [] when none does."""
    wrong = (reference_SHW != prediction_SHW).reshape(len(reference_SHW), -1).sum(axis=1)
    worst = np.argsort(-wrong, kind="stable")[:limit]
    return sorted(int(index) for index in worst if wrong[index])


def draw_case(slices: Sequence[CaseSlice], *, names: Mapping[int, str], colours: Mapping[int, str]) -> bytes:
    """A row per slice: the scan, the outlines on it, and the pixels that differ.

    Args:
        slices: of one case, at least one.
        names: class name by label value.
        colours: by label value.

    Returns:
        A PNG.
    """
    view = _view(slices)
    rows, cols = view[0].stop - view[0].start, view[1].stop - view[1].start
    pixel = slices[0].pixel_mm
    shape = (rows * pixel[0]) / (cols * pixel[1])
    width = _PANEL_IN * min(1.0, 1.5 / shape)
    figure = new_figure(3 * width + 0.3, len(slices) * (width * shape + 0.35) + 0.75)
    axes = figure.subplots(len(slices), 3, squeeze=False)
    for line, item in zip(axes, slices, strict=True):
        for axis, title in zip(line, (item.title, "outlines", "differences"), strict=True):
            _show(axis, item, view)
            axis.set_title(title, fontsize=10)
        _letters(line[0], item.sides)
        _outlines(line[1], item, view, colours)
        line[2].imshow(_differences(item)[view], aspect=pixel[0] / pixel[1], interpolation="nearest")
    figure.legend(
        handles=_legend(slices, names, colours), loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
    return png_of(figure)


def _view(slices: Sequence[CaseSlice]) -> tuple[slice, slice]:
    """The part worth showing: everything labelled on these slices with a margin; all of it when nothing is."""
    anything = np.any([(item.reference > 0) | (item.prediction > 0) for item in slices], axis=0)
    found = []
    for axis, pixel_mm in enumerate(slices[0].pixel_mm):
        size = anything.shape[axis]
        used = np.flatnonzero(anything.any(axis=1 - axis))
        if not used.size:
            return slice(0, anything.shape[0]), slice(0, anything.shape[1])
        first, last = int(used[0]), int(used[-1]) + 1
        wanted = max((last - first) * (1 + 2 * _MARGIN_SHARE), _SMALLEST_VIEW_MM / pixel_mm)
        margin = round((wanted - (last - first)) / 2)
        found.append(slice(max(0, first - margin), min(size, last + margin)))
    return found[0], found[1]


def _show(axis: Axes, item: CaseSlice, view: tuple[slice, slice]) -> None:
    aspect = item.pixel_mm[0] / item.pixel_mm[1]
    axis.imshow(stretch(item.picture)[view], cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    axis.set_axis_off()


def _letters(axis: Axes, sides: Sides) -> None:
    halo = [patheffects.withStroke(linewidth=2, foreground="black")]
    places = ((sides.left, 0.02, 0.5), (sides.right, 0.98, 0.5), (sides.top, 0.5, 0.97), (sides.bottom, 0.5, 0.03))
    for letter, x, y in places:
        axis.text(
            x,
            y,
            letter,
            transform=axis.transAxes,
            color="white",
            fontsize=10,
            weight="bold",
            ha={0.02: "left", 0.98: "right"}.get(x, "center"),
            va={0.97: "top", 0.03: "bottom"}.get(y, "center"),
            path_effects=halo,
        )


def _outlines(axis: Axes, item: CaseSlice, view: tuple[slice, slice], colours: Mapping[int, str]) -> None:
    halo: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=3, foreground="white")]
    for labels, style in ((item.reference, "solid"), (item.prediction, _DASHES)):
        for value in np.unique(labels[view]).tolist():
            if value == 0:
                continue
            # A border of zeros closes outlines that touch the edge of the view.
            mask = np.pad((labels == value)[view].astype(float), 1)
            x, y = np.arange(mask.shape[1]) - 1, np.arange(mask.shape[0]) - 1
            drawn = axis.contour(
                x, y, mask, levels=[0.5], colors=[colours.get(value, "white")], linewidths=2.0, linestyles=[style]
            )
            if style == "solid":  # a halo of dashes would fill their gaps
                drawn.set_path_effects(halo)
    rows, cols = view[0].stop - view[0].start, view[1].stop - view[1].start
    axis.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))


def _differences(item: CaseSlice) -> NDArray[np.float32]:
    painted = np.zeros((*item.reference.shape, 4), np.float32)
    inside, found = item.reference > 0, item.prediction > 0
    for mask, colour in (
        (inside & ~found, MISSED),
        (~inside & found, EXTRA),
        (inside & found & (item.reference != item.prediction), MIXED_UP),
    ):
        painted[mask] = (*to_rgb(colour), 0.8)
    return painted


def _legend(slices: Sequence[CaseSlice], names: Mapping[int, str], colours: Mapping[int, str]) -> list[Patch | Line2D]:
    shown = {
        int(value) for item in slices for labels in (item.reference, item.prediction) for value in np.unique(labels)
    }
    handles: list[Patch | Line2D] = [
        Line2D([], [], color=INK, linewidth=1.8, label="reference"),
        Line2D([], [], color=INK, linewidth=1.8, linestyle=_DASHES, label="prediction"),
        Patch(color=MISSED, label="missed"),
        Patch(color=EXTRA, label="too much"),
    ]
    if len(names) > 1:
        handles.append(Patch(color=MIXED_UP, label="wrong structure"))
    handles += [
        Patch(color=colours[value], label=names[value].replace("_", " ")) for value in sorted(shown) if value in names
    ]
    return handles
