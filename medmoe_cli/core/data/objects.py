"""Where the labels of a volume lie: enough to cut windows around them without reading the volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.imaging.vote import class_boxes

_ANCHORS = 16

Place = tuple[int, int, int]


class LabelledObject(Section):
    """All voxels of one label, as places z, y, x.

    Attributes:
        start, stop: its bounding box, `stop` excluded.
        anchors: some of its voxels, evenly spread over it in the order of the array.
    """

    start: Place
    stop: Place
    anchors: tuple[Place, ...]


def find_labelled(label_DHW: NDArray[Any]) -> dict[int, LabelledObject]:
    """Every label's object, background excluded."""
    found = {}
    for value, box in class_boxes(label_DHW):
        start = np.array([part.start for part in box])
        places = np.argwhere(label_DHW[box] == value) + start
        chosen = places[np.unique(np.linspace(0, len(places) - 1, _ANCHORS).round().astype(int))]
        found[int(value)] = LabelledObject(
            start=_place(start),
            stop=_place(np.array([part.stop for part in box])),
            anchors=tuple(_place(place) for place in chosen),
        )
    return found


def _place(place: NDArray[Any]) -> Place:
    z, y, x = (int(number) for number in place)
    return z, y, x
