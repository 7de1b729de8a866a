"""Previews: the picture, the reference, the prediction and the prompts, side by side in one PNG per case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic
from medmoe_cli.core.reporting.palette import class_colours

_OPACITY = 0.45
_PANEL_INCHES = 3.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Prompts to draw, in the picture's pixels (x right, y down, pixel centres at +0.5).

    Attributes:
        points: (x, y, positive).
        boxes: (x0, y0, x1, y1).
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One slice of a preview.

    Attributes:
        title: for instance 'slice 17'.
        picture: (rows, columns) grey or (rows, columns, 3) colour, any range.
        prediction: (rows, columns) label values.
        reference: the same, None when unknown.
        aspect: height of a pixel over its width, in mm.
    """

    title: str
    picture: NDArray[np.floating]
    prediction: NDArray[np.integer]
    reference: NDArray[np.integer] | None = None
    marks: Marks = field(default_factory=Marks)
    aspect: float = 1.0


def draw_preview(path: Path, rows: Sequence[Row], *, names: Mapping[int, str], title: str) -> Path:
    """Write one PNG: a line per slice; picture with prompts, reference (when known), prediction.

    Args:
        path: the PNG to write.
        rows: the slices, at least one.
        names: class name by label value, for the legend.
        title: the case.
    """
    with_reference = any(row.reference is not None for row in rows)
    columns = 3 if with_reference else 2
    figure = Figure(figsize=(_PANEL_INCHES * columns, _PANEL_INCHES * len(rows) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    colours = _colours(names)
    for line, row in zip(axes, rows, strict=True):
        overlays: list[tuple[str, NDArray[np.integer] | None]] = [(f"{row.title}: prompts", None)]
        if with_reference:
            overlays.append(("reference", row.reference))
        overlays.append(("prediction", row.prediction))
        for axis, (caption, labels) in zip(line, overlays, strict=True):
            axis.imshow(stretch(row.picture), cmap="gray", vmin=0, vmax=1, aspect=row.aspect, interpolation="nearest")
            if labels is not None:
                axis.imshow(_paint(labels, colours), aspect=row.aspect, interpolation="nearest")
            axis.set_title(caption, fontsize=9)
            axis.set_axis_off()
        _mark(line[0], row.marks)
    shown = sorted({int(value) for row in rows for value in _present(row)})
    handles = [Patch(color=colours[value], label=names[value]) for value in shown if value in names]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=8, frameon=False
        )
    figure.suptitle(title, fontsize=10)
    return atomic.replace_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def fullest_slices(labels_SHW: NDArray[np.integer], *, limit: int = 3) -> list[int]:
    """Indices of up to `limit` slices spread over the labelled range, the fullest first among equals; middle if none.

    Args:
        labels_SHW: label values, slices first.
        limit: at most so many.
    """
    area = (labels_SHW > 0).reshape(labels_SHW.shape[0], -1).sum(axis=1)
    filled = np.flatnonzero(area)
    if filled.size == 0:
        return [labels_SHW.shape[0] // 2]
    thirds = np.array_split(filled, min(limit, filled.size))
    return [int(part[area[part].argmax()]) for part in thirds]


def _present(row: Row) -> set[int]:
    values = set(np.unique(row.prediction).tolist())
    if row.reference is not None:
        values |= set(np.unique(row.reference).tolist())
    return values - {0}


def _colours(names: Mapping[int, str]) -> dict[int, tuple[float, float, float]]:
    return {value: to_rgb(colour) for value, colour in class_colours(names).items()}


def stretch(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """Grey values to [0, 1] between their 0.5 and 99.5 percentiles."""
    low, high = np.percentile(picture, (0.5, 99.5))
    if high <= low:
        return np.zeros_like(picture, dtype=np.float32)
    stretched: NDArray[np.float32] = np.clip((picture - low) / (high - low), 0, 1).astype(np.float32)
    return stretched


def _paint(labels: NDArray[np.integer], colours: Mapping[int, tuple[float, float, float]]) -> NDArray[np.float32]:
    painted = np.zeros((*labels.shape, 4), np.float32)
    for value in np.unique(labels).tolist():
        if value:
            painted[labels == value] = (*colours.get(value, (1.0, 1.0, 1.0)), _OPACITY)
    return painted


def _mark(axis: mpl.axes.Axes, marks: Marks) -> None:
    # imshow centres pixel i at i; our pixel i spans [i, i + 1): shift by half a pixel.
    for x0, y0, x1, y1 in marks.boxes:
        axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="yellow", linewidth=1.2))
    for x, y, positive in marks.points:
        colour = "lime" if positive else "red"
        axis.plot(x - 0.5, y - 0.5, marker="*", color=colour, markersize=9, markeredgecolor="black")
