"""A contact sheet: many masks at a glance, each outlined on its picture, the best and the worst of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from numpy.typing import NDArray

from medmoe_cli.core.reporting.figures import new_figure, png_of
from medmoe_cli.core.reporting.overlay import stretch
from medmoe_cli.core.reporting.palette import INK

_COLUMNS = 5
_TILE_IN, _TEXT_IN, _GAP_IN, _HEAD_IN = 2.3, 0.5, 0.08, 0.36
_PITCH_IN, _ROW_IN = _TILE_IN + _GAP_IN, _TILE_IN + _TEXT_IN + _GAP_IN
_MARGIN_SHARE, _SMALLEST_VIEW = 0.6, 40
_OUTLINE = "#F0E442"
_NAME_LENGTH = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One mask.

    Attributes:
        title: where it is, for instance 'case_001, slice 17'.
        name: its class.
        score: among its peers, larger is better.
        detail: a short line below.
        picture: (rows, columns) grey or (rows, columns, 3) colour in [0, 1].
        mask: (rows, columns).
        pixel_mm: height and width of a pixel.
    """

    title: str
    name: str
    score: float
    detail: str
    picture: NDArray[np.floating]
    mask: NDArray[np.bool_]
    pixel_mm: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Tiles under one headline."""

    title: str
    tiles: tuple[Tile, ...]


def draw_contact_sheet(blocks: Sequence[Block], *, title: str) -> bytes:
    """Draw the blocks below each other, five tiles a row.

    Args:
        blocks: those without tiles are left out; at least one has some.
        title: of the sheet.

    Returns:
        A PNG.
    """
    shown = [block for block in blocks if block.tiles]
    width = _COLUMNS * _PITCH_IN + _GAP_IN
    height = _HEAD_IN + sum(_HEAD_IN + _rows(block) * _ROW_IN for block in shown)
    # One axis in inches for all tiles: an axis each, and a layout that asks every one for its ticks, takes a minute.
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.text(_GAP_IN, _HEAD_IN / 2, title, fontsize=12, va="center", color=INK)
    top = _HEAD_IN
    for block in shown:
        axis.text(_GAP_IN, top + _HEAD_IN / 2, block.title, fontsize=11, weight="bold", va="center", color=INK)
        top += _HEAD_IN
        for place, tile in enumerate(block.tiles):
            row, column = divmod(place, _COLUMNS)
            _draw(axis, tile, left=_GAP_IN + column * _PITCH_IN, top=top + row * _ROW_IN)
        top += _rows(block) * _ROW_IN
    axis.set(xlim=(0, width), ylim=(height, 0))
    return png_of(figure)


def _rows(block: Block) -> int:
    return -(-len(block.tiles) // _COLUMNS)


def _draw(axis: Axes, tile: Tile, *, left: float, top: float) -> None:
    """Text, then the picture below it, within a square of the sheet."""
    view = _view(tile)
    # Grey is stretched to what is shown, so that an eye can judge the outline where a wide window shows little.
    picture = tile.picture[view] if tile.picture.ndim > 2 else stretch(tile.picture[view])
    rows, cols = picture.shape[:2]
    scale = _TILE_IN / max(rows * tile.pixel_mm[0], cols * tile.pixel_mm[1])
    pixel_y, pixel_x = scale * tile.pixel_mm[0], scale * tile.pixel_mm[1]
    x0 = left + (_TILE_IN - cols * pixel_x) / 2
    y0 = top + _TEXT_IN
    extent = (x0, x0 + cols * pixel_x, y0 + rows * pixel_y, y0)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
    # A border of zeros closes outlines that touch the edge of the view; they may not leave it.
    mask = np.pad(tile.mask[view].astype(float), 1)
    x = np.clip(np.arange(mask.shape[1]) - 0.5, 0, cols) * pixel_x + x0
    y = np.clip(np.arange(mask.shape[0]) - 0.5, 0, rows) * pixel_y + y0
    drawn = axis.contour(x, y, mask, levels=[0.5], colors=[_OUTLINE], linewidths=1.2)
    drawn.set_path_effects([patheffects.withStroke(linewidth=2.4, foreground="black")])
    text = f"{_short(tile.title)}\n{_short(tile.name.replace('_', ' '))}: {tile.score:.3f}\n{tile.detail}"
    axis.text(left + _TILE_IN / 2, y0 - 0.04, text, fontsize=7.5, linespacing=1.15, ha="center", va="bottom", color=INK)


def _view(tile: Tile) -> tuple[slice, slice]:
    """A square of the patient around the mask, with some of what is around it."""
    heights, widths = np.nonzero(tile.mask)
    height_mm, width_mm = tile.pixel_mm
    longer_mm = max((np.ptp(heights) + 1) * height_mm, (np.ptp(widths) + 1) * width_mm)
    side_mm = max(longer_mm * (1 + 2 * _MARGIN_SHARE), _SMALLEST_VIEW * min(tile.pixel_mm))
    rows, cols = tile.mask.shape
    return _window(heights, side_mm / height_mm, rows), _window(widths, side_mm / width_mm, cols)


def _window(places: NDArray[Any], length: float, size: int) -> slice:
    """So many pixels around the middle of some, moved to lie within the picture."""
    wanted = min(size, round(length))
    start = round((int(places.min()) + int(places.max()) + 1 - wanted) / 2)
    start = min(max(start, 0), size - wanted)
    return slice(start, start + wanted)


def _short(text: str) -> str:
    return text if len(text) <= _NAME_LENGTH else f"{text[:12]}...{text[-15:]}"
