"""From samples to batches: what a loader's worker makes of one draw, and several of them joined.

Shapes: B images, Q queries, C channels, *S the network's input size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.engine.prompting import QueryPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One mask to ask for.

    Attributes:
        value: the label value.
        mask: bool (*S), within the valid area.
        prompts: what is given first, one per chooser (one in training, one per prompt kind in validation).
        seed: of its correction clicks.
    """

    value: int
    mask: NDArray[np.bool_]
    prompts: tuple[QueryPrompt, ...]
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One loaded draw.

    Attributes:
        key: the sample's name.
        image: float32 (C, *S); None when its features are cached.
        maps: cached features by name, without the image axis.
        label: int64 (*S) of class positions, 0 background; for the automatic task.
        valid: bool (*S).
        queries: for the prompted task.
        finite: False when the image has NaN or Inf values.
        known: bool (classes,), those that were labelled; None for all.
        owner: which expert answers for the sample; 0 the general model.
    """

    key: str
    image: NDArray[np.float32] | None
    maps: Mapping[str, Tensor] | None
    label: NDArray[np.int64]
    valid: NDArray[np.bool_]
    queries: tuple[Query, ...]
    finite: bool
    owner: int = 0
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Joined items.

    Attributes:
        keys: the samples' names.
        not_finite: names of those whose image is not finite.
        images: float32 (B, C, *S), or None with `maps`.
        maps: cached features, first axis the image.
        input_size: *S.
        labels: int64 (B, *S).
        valid: bool (B, *S).
        image_index: int64 (Q,), the image of each query.
        values: label value of each query.
        masks: bool (Q, 1, *S).
        prompts: per chooser, the first prompt of each query.
        seeds: of each query's correction clicks.
        owners: int64 (Q,), the expert that answers for each query's sample; 0 the general model.
        known: bool (B, classes), those that were labelled in each image; None where all were in all.
    """

    keys: tuple[str, ...]
    not_finite: tuple[str, ...]
    images: Tensor | None
    maps: Mapping[str, Tensor] | None
    input_size: tuple[int, ...]
    labels: Tensor
    valid: Tensor
    image_index: Tensor
    values: tuple[int, ...]
    masks: Tensor
    prompts: tuple[tuple[QueryPrompt, ...], ...]
    seeds: tuple[int, ...]
    owners: Tensor
    known: Tensor | None = None

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.values)


def join(items: Sequence[Item]) -> Batch:
    """Join items, in order."""
    images = None
    if items[0].image is not None:
        images = torch.from_numpy(np.stack([_image(item) for item in items]))
    maps = None
    if items[0].maps is not None:
        maps = {name: torch.stack([_maps(item)[name] for item in items]) for name in items[0].maps}
    queries = [(row, query) for row, item in enumerate(items) for query in item.queries]
    size = items[0].valid.shape
    masks = np.stack([query.mask for _, query in queries]) if queries else np.zeros((0, *size), bool)
    return Batch(
        keys=tuple(item.key for item in items),
        not_finite=tuple(item.key for item in items if not item.finite),
        images=images,
        maps=maps,
        input_size=tuple(size),
        labels=torch.from_numpy(np.stack([item.label for item in items])),
        valid=torch.from_numpy(np.stack([item.valid for item in items])),
        image_index=torch.tensor([row for row, _ in queries], dtype=torch.long),
        values=tuple(query.value for _, query in queries),
        masks=torch.from_numpy(masks[:, None]),
        prompts=tuple(zip(*(query.prompts for _, query in queries), strict=True)),
        seeds=tuple(query.seed for _, query in queries),
        owners=torch.tensor([items[row].owner for row, _ in queries], dtype=torch.long),
        known=_known(items),
    )


def _known(items: Sequence[Item]) -> Tensor | None:
    number = next((len(item.known) for item in items if item.known is not None), None)
    if number is None:
        return None
    rows = [np.ones(number, bool) if item.known is None else item.known for item in items]
    return torch.from_numpy(np.stack(rows))


def _image(item: Item) -> NDArray[np.float32]:
    assert item.image is not None
    return item.image


def _maps(item: Item) -> Mapping[str, Tensor]:
    assert item.maps is not None
    return item.maps
