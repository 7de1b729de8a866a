"""What is found in a scan: answers one by one as they are made, and the label map they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.nn.prompts import QueryPrompt
from medmoe_cli.core.workflows.predicting.requests import Request
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A request's answer on the scan's own slices; of a volume, which comes slab by slab, a part of it.

    Attributes:
        request: what was asked.
        place: where the probability lies in (slices, rows, cols).
        probability: float32, of that place.
        score: the model's own estimate of the mask's IoU, None when it has none.
        presence: how likely the model finds it that what was asked for by name is there, None when it does not say.
        token: index of the routed token or expert, None for methods without one and for several models.
        round: how many correction clicks came before it.
        part: of a volume, the number of this slab among those that the answer reaches.
    """

    request: Request | VolumeRequest
    place: tuple[int | slice, slice, slice]
    probability: NDArray[np.float32]
    score: float | None
    token: int | None
    presence: float | None = None
    round: int = 0
    part: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """A scan's result.

    Attributes:
        labels_SHW: label values (slices, rows, cols), canonical slices.
        prompts: the prompts given, by slice, for previews; as the scan's `points_to_pixels` takes them.
        num_requests: masks that were asked for.
        tokens: how often each routed token made the mask.
        prompted: label values for which a point, box or mask was given, whose masks are the user's own choice.
        presence: by label value asked for by name, the highest presence on any slice; empty where models do not say.
    """

    labels_SHW: NDArray[np.unsignedinteger]
    prompts: dict[int, list[QueryPrompt]]
    num_requests: int
    tokens: dict[int, int]
    prompted: frozenset[int] = frozenset()
    presence: Mapping[int, float] = field(default_factory=dict)


def settle(
    half: NDArray[np.float16],
    value: int,
    *,
    threshold: float,
    labels: NDArray[np.unsignedinteger],
    best: NDArray[np.float16],
) -> None:
    """Write a mask where it is more probable than what is there; in place.

    Args:
        half: its probabilities, in the precision in which they are kept, so that a mask and its probabilities agree.
        value: its label value.
        threshold: a voxel at or below it is not the mask's.
        labels: label values, changed.
        best: probability of what is there, changed.
    """
    wins = (half > threshold) & (half > best)
    labels[wins] = value
    best[wins] = half[wins]


def label_map(shape: tuple[int, ...], values: Iterable[int]) -> NDArray[np.unsignedinteger]:
    """Zeros of the smallest type that holds these values."""
    return np.zeros(shape, np.uint8 if max(values, default=0) <= np.iinfo(np.uint8).max else np.uint16)
