"""Validation during training: Dice per instance on the network's grid, by prompt kind.

Cheap and comparable from epoch to epoch; the numbers of record are `evaluate`'s, at native resolution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.engine.batch import Batch
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.loader import Loader, Loading
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.step import encode_batch, no_prompts
from medmoe_cli.core.nn.prompts import collate
from medmoe_cli.core.nn.segmenter import Output, Segmenter, Stage

AUTOMATIC = "automatic"
ABSENT = "absent"  # named, and not in the image: the Dice of an empty answer is 1, of any other 0
_PRESENT = 0.5  # the probability of presence from which on a mask is given
_QUERIES_TOGETHER = 32  # a slice may show a hundred classes


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Mean Dice over instances, in [0, 1].

    Attributes:
        score: mean over prompt kinds; the best checkpoint has the highest. Names of absent classes count as a kind:
            a model that finds everything everywhere is no good one.
        dice: by prompt kind ('box', 'point', 'text', 'none', 'absent', or 'automatic').
        by_class: by prompt kind and label value.
        num_instances: instances asked for, per prompt kind; absent ones not counted.
        num_samples: images.
    """

    score: float
    dice: dict[str, float]
    by_class: dict[str, dict[int, float]]
    num_instances: int
    num_samples: int


def chosen_samples(num_samples: int, limit: int | None) -> list[int]:
    """All samples, or `limit` of them spread evenly: the same in every epoch."""
    if limit is None or limit >= num_samples:
        return list(range(num_samples))
    return sorted({int(place) for place in np.linspace(0, num_samples - 1, limit).round()})


@torch.no_grad()
def validate(
    segmenter: Segmenter,
    stage: Stage,
    loading: Loading,
    *,
    compute: Compute,
    batch_size: int,
    workers: int,
    limit: int | None,
    stop: StopFlag,
) -> Validation | None:
    """Measure the segmenter as it is; None when a signal came before the end.

    Args:
        segmenter: put into evaluation mode.
        stage: its task decides between prompted instances and label maps.
        loading: of the validation source, without augmentation.
        compute: device and precision.
        batch_size: images together.
        workers: loader processes.
        limit: at most so many samples.
        stop: looked at between batches.

    Raises:
        MedMoEError: what loading a sample raised.
        ResourceError: a worker died.
    """
    segmenter.eval()
    samples = chosen_samples(len(loading.source), limit)
    draws = [
        [Draw(index=index, epoch=0, repeat=0) for index in samples[start : start + batch_size]]
        for start in range(0, len(samples), batch_size)
    ]
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    loader = Loader(loading, draws, workers=workers)
    with loader.dead_workers_explained():
        for batch in loader:
            if stop.wanted:
                return None
            with compute.autocast():
                if stage.task == "automatic":
                    _measure_automatic(segmenter, batch, loading.values, compute, found)
                elif batch.num_queries:
                    _measure_prompted(segmenter, batch, loading, compute, found)
    return _summary(found, num_samples=len(samples))


def _measure_prompted(
    segmenter: Segmenter, batch: Batch, loading: Loading, compute: Compute, found: dict[str, dict[int, list[float]]]
) -> None:
    features = encode_batch(segmenter, batch, compute.device)
    index_Q = batch.image_index.to(compute.device)
    valid = batch.valid.to(compute.device)[index_Q]
    masks = batch.masks.to(compute.device).squeeze(1) & valid
    for start in range(0, batch.num_queries, _QUERIES_TOGETHER):
        part = slice(start, start + _QUERIES_TOGETHER)
        rows = features.take(index_Q[part])
        for chooser, prompts in zip(loading.choosers, batch.prompts, strict=True):
            asked = collate(prompts[part], mask_size=segmenter.mask_size).to(compute.device)
            answered = _answered(segmenter, segmenter.decode(rows, asked)) & valid[part]
            there = masks[part].flatten(1).any(1).tolist()
            for value, dice, present in zip(batch.values[part], _dice(answered, masks[part]), there, strict=True):
                found[chooser.name if present else ABSENT][value].append(float(dice))


def _answered(segmenter: Segmenter, output: Output) -> Tensor:
    """Masks above one half, bool (Q, *S): empty where the model says that nothing is there.

    Prediction may have other thresholds, and names may compete there; for choosing a checkpoint one half is enough.
    """
    answered = (output.logits > 0).squeeze(1)
    if segmenter.scores_are_presence and output.scores is not None:
        there_Q = output.scores >= _PRESENT
        answered = answered & there_Q.view(-1, *(1,) * (answered.ndim - 1))
    return answered


def _measure_automatic(
    segmenter: Segmenter,
    batch: Batch,
    values: Sequence[int],
    compute: Compute,
    found: dict[str, dict[int, list[float]]],
) -> None:
    features = encode_batch(segmenter, batch, compute.device)
    logits = segmenter.decode(features, no_prompts(len(batch.keys), segmenter.mask_size, compute.device)).logits
    answered, wanted, valid = logits.argmax(1), batch.labels.to(compute.device), batch.valid.to(compute.device)
    for position, value in enumerate(values, start=1):
        truth, answer = (wanted == position) & valid, (answered == position) & valid
        present = (truth | answer).flatten(1).any(1).cpu().numpy()
        if batch.known is not None:
            present &= batch.known[:, position - 1].numpy()
        for there, dice in zip(present, _dice(answer, truth), strict=True):
            if there:  # absent and not claimed: nothing to measure
                found[AUTOMATIC][value].append(float(dice))


def _dice(answered: Tensor, wanted: Tensor) -> NDArray[np.float64]:
    both = (answered & wanted).flatten(1).sum(1).double()
    total = answered.flatten(1).sum(1).double() + wanted.flatten(1).sum(1).double()
    dice: NDArray[np.float64] = (
        torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(total)).cpu().numpy()
    )
    return dice


def _summary(found: dict[str, dict[int, list[float]]], *, num_samples: int) -> Validation:
    dice = {kind: _mean([item for items in classes.values() for item in items]) for kind, classes in found.items()}
    counts = [sum(len(items) for items in classes.values()) for kind, classes in found.items() if kind != ABSENT]
    return Validation(
        score=_mean(list(dice.values())),
        dice=dice,
        by_class={
            kind: {value: _mean(items) for value, items in sorted(classes.items())} for kind, classes in found.items()
        },
        num_instances=max(counts, default=0),
        num_samples=num_samples,
    )


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0
