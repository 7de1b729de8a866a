"""From prompts in a volume to prompts on its slices.

A box asks for its rectangle on every slice between its faces; a point belongs to the slice it lies on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.data.prompts_file import VolumePrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePrompt:
    """What a volume's prompt says about one slice, in the network's input pixels.

    Attributes:
        points_N3: (x, y, 1 inside | 0 outside).
        box_4: x0, y0, x1, y1, or None.
    """

    points_N3: NDArray[np.float64]
    box_4: NDArray[np.float64] | None


def prompts_by_slice(prompt: VolumePrompt, prepared: Prepared) -> Mapping[int, SlicePrompt]:
    """The slices that a prompt speaks of; empty for a text-only prompt."""
    places = prepared.to_slices(prompt.points_N4[:, :3]) if len(prompt.points_N4) else None
    boxes = _boxes_by_slice(prompt.box_6, prepared) if prompt.box_6 is not None else {}
    points: dict[int, list[list[float]]] = {}
    if places is not None:
        for index, (x, y), positive in zip(places.index_N, places.input_N2, prompt.points_N4[:, 3], strict=True):
            points.setdefault(int(index), []).append([x, y, positive])
    return {
        index: SlicePrompt(
            points_N3=np.array(points.get(index, []), float).reshape(-1, 3),
            box_4=boxes.get(index),
        )
        for index in sorted({*points, *boxes})
    }


def _boxes_by_slice(box_6: NDArray[np.float64], prepared: Prepared) -> dict[int, NDArray[np.float64]]:
    corners = prepared.turn.points_to_canonical(box_6.reshape(2, 3))
    low, high = corners.min(axis=0), corners.max(axis=0)
    axis = prepared.plan.slice_axis
    across, down = (other for other in range(3) if other != axis)
    native = np.array([low[across], low[down], high[across], high[down]]) + 0.5
    rectangle = prepared.fit.boxes_to_input(native[None])[0]
    first = max(int(np.ceil(low[axis])), 0)
    last = min(int(np.floor(high[axis])), prepared.num_slices - 1)
    if first > last:
        # Thinner than a slice and between two centres: the slice it lies in counts.
        first = last = int(np.clip(round(float(low[axis] + high[axis]) / 2), 0, prepared.num_slices - 1))
    return dict.fromkeys(range(first, last + 1), rectangle)
