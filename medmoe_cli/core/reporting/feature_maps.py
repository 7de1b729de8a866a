"""Feature maps as pictures: many channels become three colours, one stays a brightness."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.reporting.figures import new_figure, png_of
from medmoe_cli.core.reporting.overlay import stretch
from medmoe_cli.core.reporting.page import Picture

_LAYER = re.compile(r"^layer \d+$")
_PANEL_IN = 2.0
_COLUMNS = 5


def feature_pictures(
    scan: NDArray[np.floating], maps: Mapping[str, NDArray[np.floating]], *, case: str
) -> tuple[Picture, ...]:
    """The scan beside its maps; the encoder's layers ('layer 1', ...) in a picture of their own.

    Args:
        scan: (rows, columns) grey or (rows, columns, 3) colour.
        maps: (channels, h, w) by what they show; each covers the scan.
        case: which scan and slice it is, for the captions.
    """
    layers = {name: values for name, values in maps.items() if _LAYER.match(name)}
    rest = {name: values for name, values in maps.items() if name not in layers}
    found = []
    explained = (
        "Colours are the first three principal components of a map: places of one colour look alike to the network. "
        "Colours of two maps do not compare."
    )
    if layers:
        found.append(
            Picture(
                name="features-layers",
                png=_sheet(scan, layers),
                alt=f"The scan and the feature maps of {len(layers)} encoder layers, {case}.",
                caption=f"What the encoder's layers see, first to last, {case}. {explained}",
            )
        )
    if rest:
        found.append(
            Picture(
                name="features",
                png=_sheet(scan, rest),
                alt=f"The scan and its feature maps ({', '.join(rest)}), {case}.",
                caption=f"{_sentence(', '.join(rest))}, {case}. {explained} Maps of one channel are shown as "
                "brightness, yellow is high.",
            )
        )
    return tuple(found)


def principal_colours(map_CHW: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first three principal components of a map over its pixels, as RGB (h, w, 3) in [0, 1].

    Components that the map lacks (fewer channels, or constant) are 0.5. The sign of a component is fixed by its
    largest loading, so that equal maps look equal.
    """
    channels, height, width = map_CHW.shape
    pixels_NC = map_CHW.reshape(channels, -1).T.astype(np.float64)
    pixels_NC = pixels_NC - pixels_NC.mean(axis=0)
    variances, loadings = np.linalg.eigh(pixels_NC.T @ pixels_NC)
    colours = np.full((height * width, 3), 0.5)
    for place, component in enumerate(np.argsort(-variances)[:3]):
        if variances[component] <= 1e-12 * max(float(variances.max()), 1e-300):
            continue
        loading = loadings[:, component]
        values = pixels_NC @ (loading * np.sign(loading[np.abs(loading).argmax()]))
        low, high = np.percentile(values, (1, 99))
        if high > low:
            colours[:, place] = np.clip((values - low) / (high - low), 0, 1)
    return colours.reshape(height, width, 3)


def _sheet(scan: NDArray[np.floating], maps: Mapping[str, NDArray[np.floating]]) -> bytes:
    columns = min(_COLUMNS, len(maps) + 1)
    rows = math.ceil((len(maps) + 1) / columns)
    shape = scan.shape[0] / scan.shape[1]
    figure = new_figure(_PANEL_IN * columns + 0.2, rows * (_PANEL_IN * shape + 0.3) + 0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    grid[0].imshow(stretch(scan), cmap="gray", vmin=0, vmax=1)
    grid[0].set_title("scan", fontsize=10)
    for axes, (name, values) in zip(grid[1:], maps.items(), strict=False):
        if values.shape[0] < 3:
            axes.imshow(stretch(values.mean(axis=0)), cmap="cividis", vmin=0, vmax=1)
        else:
            axes.imshow(principal_colours(values))
        axes.set_title(name, fontsize=10)
    return png_of(figure)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
