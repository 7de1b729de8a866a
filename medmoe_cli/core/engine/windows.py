"""Which windows of a volume a 3D network is shown for what is asked, and how their answers become one.

Places are (z, y, x) of arrays, in voxels with voxel i covering [i, i + 1). A window is a cube that may reach over the
volume's edge; there it is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.nn.prompts import Click, QueryPrompt

Triple = tuple[int, int, int]
Box3 = tuple[slice, slice, slice]
# Around a point an object is expected to reach a quarter of the window, as training cuts its windows.
POINT_MARGIN, BOX_MARGIN = 0.25, 0.125
_SIGMA = 1 / 8  # of the window's side, as nnU-Net weighs its windows (Isensee et al. 2021)
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What a query's prompts span, and how much around it should be seen.

    Attributes:
        low, high: z, y, x.
        margin: as a fraction of the window's side.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A cube of a volume.

    Attributes:
        start: its first voxel; may be negative.
        side: in voxels.
        shape: of the volume.
    """

    start: Triple
    side: int
    shape: Triple

    @property
    def place(self) -> Box3:
        """The part of the volume that it shows."""
        z, y, x = (
            slice(max(start, 0), max(min(start + self.side, length), 0))
            for start, length in zip(self.start, self.shape, strict=True)
        )
        return z, y, x

    @property
    def own(self) -> Box3:
        """The same part in the window's own voxels."""
        z, y, x = (
            slice(part.start - start, part.stop - start) for part, start in zip(self.place, self.start, strict=True)
        )
        return z, y, x

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(S, S, S): False beyond the volume."""
        valid = np.zeros((self.side,) * 3, bool)
        valid[self.own] = True
        return valid

    def cut(self, volume: NDArray[Any]) -> NDArray[Any]:
        """The window of a volume (..., D, H, W); 0 beyond it."""
        out = np.zeros((*volume.shape[:-3], *(self.side,) * 3), volume.dtype)
        out[(..., *self.own)] = volume[(..., *self.place)]
        return out

    def prompt(self, prompt: QueryPrompt) -> QueryPrompt | None:
        """A prompt (x, y, z of the volume) in the window's own voxels: points inside it, the box clipped to it.

        Returns:
            None where nothing of a prompted query lies in the window that says where the structure is.
        """
        if not prompt.clicks and prompt.box is None:
            return prompt
        clicks = tuple(self.click(click) for click in prompt.clicks if self.holds(click))
        box = None if prompt.box is None else self._box(prompt.box)
        says_inside = any(click.foreground for click in prompt.clicks) or prompt.box is not None
        if box is None and not any(click.foreground or not says_inside for click in clicks):
            return None
        return replace(prompt, clicks=clicks, box=box)

    def holds(self, click: Click) -> bool:
        """True when a click (x, y, z of the volume) lies in the window."""
        inside = np.array(click.position) - self.start[::-1]
        return bool((inside >= 0).all() and (inside <= self.side).all())

    def click(self, click: Click) -> Click:
        """A click of the volume in the window's own voxels."""
        x, y, z = (place - start for place, start in zip(click.position, reversed(self.start), strict=True))
        return Click(position=(x, y, z), foreground=click.foreground)

    def _box(self, box_6: tuple[float, ...]) -> tuple[float, ...] | None:
        shift = np.array(self.start[::-1] * 2, float)
        clipped = np.clip(np.array(box_6) - shift, 0, self.side)
        if (clipped[3:] <= clipped[:3]).any():
            return None
        return tuple(clipped.tolist())


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowGroup:
    """Windows, and the queries that are asked in each of them.

    Attributes:
        windows: one, or several that overlap by half.
        queries: positions in the list of queries, ascending.
    """

    windows: tuple[Window, ...]
    queries: tuple[int, ...]

    @property
    def place(self) -> Box3:
        """The part of the volume that the windows show."""
        places = [window.place for window in self.windows]
        z, y, x = (
            slice(min(place[axis].start for place in places), max(place[axis].stop for place in places))
            for axis in range(3)
        )
        return z, y, x


def group_windows(extents: Sequence[Extent | None], shape: Triple, side: int) -> tuple[WindowGroup, ...]:
    """The windows that queries are asked in; queries whose prompts fit into one window share it.

    Args:
        extents: of each query's prompts; None for a query about the whole volume.
        shape: of the volume.
        side: of a window.
    """
    singles: list[tuple[NDArray[np.float64], list[int]]] = []
    sliding: dict[tuple[float, ...], list[int]] = {}
    for query, extent in enumerate(extents):
        if extent is None:
            sliding.setdefault((0.0, 0.0, 0.0, *map(float, shape)), []).append(query)
            continue
        span = _with_margin(extent, shape, side)
        if not _fits(span, side):
            tight = np.array([extent.low, extent.high], float)
            if not _fits(tight, side):
                sliding.setdefault(tuple(span.ravel().tolist()), []).append(query)
            else:
                singles.append((tight, [query]))
            continue
        for index, (taken, queries) in enumerate(singles):
            union = np.stack([np.minimum(taken[0], span[0]), np.maximum(taken[1], span[1])])
            if _fits(union, side):
                singles[index] = (union, [*queries, query])
                break
        else:
            singles.append((span, [query]))
    groups = [WindowGroup(windows=(_centred(span, shape, side),), queries=tuple(found)) for span, found in singles]
    for edges, found in sliding.items():
        windows = _sliding(np.array(edges).reshape(2, 3), shape, side)
        groups.append(WindowGroup(windows=windows, queries=tuple(found)))
    return tuple(sorted(groups, key=lambda group: group.queries[0]))


class Mosaic:
    """The answers of overlapping windows as one map, weighed by a Gaussian around each window's centre.

    Kept in half precision, as probabilities are; every window's share is known beforehand, so one map is all there is.

    Args:
        place: the part of the volume that is wanted; it holds all windows.
        weight: of all windows that answer, from `total_weight`.
    """

    def __init__(self, place: Box3, weight: NDArray[np.float32] | None) -> None:
        self._start = tuple(part.start for part in place)
        self.probability: NDArray[np.float16] = np.zeros([part.stop - part.start for part in place], np.float16)
        self._total = weight

    def add(self, window: Window, probability: NDArray[np.floating]) -> None:
        """Add a window's answer (S, S, S)."""
        inside, own = self._inside(window), window.own
        if self._total is None:
            self.probability[inside] = probability[own]
            return
        share = gaussian(window.side)[own] / self._total[inside]
        self.probability[inside] += (share * probability[own]).astype(np.float16)

    def _inside(self, window: Window) -> Box3:
        return _within(window, self._start)


def total_weight(windows: Sequence[Window], place: Box3) -> NDArray[np.float32] | None:
    """What the weights of windows add up to on a part of the volume; None for one window, which counts alone."""
    if len(windows) == 1:
        return None
    total = np.zeros([part.stop - part.start for part in place], np.float32)
    start = tuple(part.start for part in place)
    for window in windows:
        total[_within(window, start)] += gaussian(window.side)[window.own]
    return total


def _within(window: Window, start: tuple[int, ...]) -> Box3:
    """A window's place in a part of the volume that begins at `start`."""
    z, y, x = (slice(part.start - first, part.stop - first) for part, first in zip(window.place, start, strict=True))
    return z, y, x


@lru_cache(maxsize=4)
def gaussian(side: int) -> NDArray[np.float32]:
    """(S, S, S) weights of a window's voxels, 1 in its centre; never so small that a border counts nothing."""
    distance = (np.arange(side) + 0.5 - side / 2) / (side * _SIGMA)
    axis = np.exp(-0.5 * distance**2)
    weights = axis[:, None, None] * axis[None, :, None] * axis[None, None, :]
    return np.asarray(np.maximum(weights / weights.max(), _LEAST_WEIGHT), np.float32)


def batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    """Consecutive windows, at most `size` at a time."""
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def _with_margin(extent: Extent, shape: Triple, side: int) -> NDArray[np.float64]:
    """(2, 3) what should be seen; beyond the volume there is nothing to see."""
    margin = extent.margin * side
    low = np.maximum(np.array(extent.low) - margin, 0)
    high = np.minimum(np.array(extent.high) + margin, shape)
    return np.stack([np.minimum(low, extent.low), np.maximum(high, extent.high)])


def _fits(span_23: NDArray[np.float64], side: int) -> bool:
    """Into a window that starts at a whole voxel, wherever the span lies between two."""
    return bool((np.ceil(span_23[1]) - np.floor(span_23[0]) <= side).all())


def _centred(span_23: NDArray[np.float64], shape: Triple, side: int) -> Window:
    """The window around a span that fits into it, moved inside the volume where it can be."""
    start = np.round(span_23.mean(axis=0) - side / 2).astype(int)
    spare = np.array(shape) - side
    start = np.clip(start, np.minimum(spare, 0), np.maximum(spare, 0))
    return _window(start, shape, side)


def _sliding(span_23: NDArray[np.float64], shape: Triple, side: int) -> tuple[Window, ...]:
    """Windows over a span, half a window apart or less, all inside the volume where they can be."""
    starts = []
    for low, high, length in zip(np.floor(span_23[0]), np.ceil(span_23[1]), shape, strict=True):
        spare = length - side
        reach = high - low - side
        if reach <= 0:
            first = last = round((low + high - side) / 2)
            count = 1
        else:
            first, last = low, high - side
            count = int(np.ceil(reach / (side / 2))) + 1
        places = np.round(np.linspace(first, last, count)).astype(int)
        starts.append(np.clip(places, min(spare, 0), max(spare, 0)))
    return tuple(_window(np.array(start), shape, side) for start in product(*starts))


def _window(start_3: NDArray[Any], shape: Triple, side: int) -> Window:
    z, y, x = (int(place) for place in start_3)
    return Window(start=(z, y, x), side=side, shape=shape)
