"""One training step's forward pass, for both tasks: encode once, answer every query, add up the losses.

It is a module of its own, called once per step, because DistributedDataParallel and autocast hang on a module's call.

Shapes: B images, Q queries, C channels, *S the network's input size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.engine.batch import Batch
from medmoe_cli.core.engine.losses import Target, check_names, combine
from medmoe_cli.core.engine.prompting import corrected
from medmoe_cli.core.nn.prompts import collate
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts, Segmenter, Stage


class Carrier:
    """Carries a batch into a wrapped module untouched: Fabric would cast and DDP would copy what it can see into."""

    __slots__ = ("batch",)

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


@dataclass(slots=True)
class StepLosses:
    """What a step gives, in tensors.

    Attributes:
        total: the scalar to differentiate.
        parts: weighted losses by name, means over the rounds.
        loads: by place, the number of items each expert received, over the rounds.
    """

    total: Tensor
    parts: dict[str, Tensor]
    loads: dict[str, Tensor]


class StepModule(nn.Module):
    """A segmenter with a stage's task and losses around it."""

    def __init__(self, segmenter: Segmenter, stage: Stage) -> None:
        super().__init__()
        check_names(stage.losses)
        self.segmenter, self.stage = segmenter, stage

    def forward(self, carrier: Carrier) -> StepLosses:
        """Run the step's forward pass and its losses."""
        batch = carrier.batch
        device = next(self.segmenter.parameters()).device
        features = encode_batch(self.segmenter, batch, device)
        if self.stage.task == "automatic":
            output = self.segmenter.decode(features, no_prompts(len(batch.keys), self.segmenter.mask_size, device))
            known = None if batch.known is None else batch.known.to(device)
            target = Target(masks=batch.labels.to(device), valid=batch.valid.to(device), known=known)
            parts = combine(output, target, self.stage.losses)
            return StepLosses(total=_sum(parts), parts=parts, loads=_loads(output))
        if not batch.num_queries:
            return self._nothing_asked()
        return self._prompted(batch, features, device)

    def _prompted(self, batch: Batch, features: Features, device: torch.device) -> StepLosses:
        index_Q = batch.image_index.to(device)
        rows = features.take(index_Q)
        target = Target(
            masks=batch.masks.to(device),
            valid=batch.valid.to(device)[index_Q],
            owners=batch.owners.to(device),
            images=index_Q,
            classes=torch.tensor(batch.values, device=device),
        )
        (prompts,) = batch.prompts
        # Drawn from the first query's seed: the same whoever runs the step, and after a resume.
        corrects = generator(batch.seeds[0], "correct").random() < self.stage.correction_share
        rounds = 1 + self.stage.correction_rounds * corrects
        parts: dict[str, Tensor] = {}
        loads: dict[str, Tensor] = {}
        for round_ in range(rounds):
            asked = collate(prompts, mask_size=self.segmenter.mask_size).to(device)
            output = self.segmenter.decode(rows, asked)
            for name, loss in combine(output, target, self.stage.losses).items():
                parts[name] = parts.get(name, loss.new_zeros(())) + loss / rounds
            for place, load in _loads(output).items():
                loads[place] = loads.get(place, torch.zeros_like(load)) + load
            if round_ + 1 < rounds:
                prompts = tuple(
                    corrected(
                        prompts,
                        logits=output.logits,
                        low_res_logits=output.low_res_logits,
                        masks=target.masks,
                        valid=target.valid,
                    )
                )
        return StepLosses(total=_sum(parts), parts=parts, loads=loads)

    def _nothing_asked(self) -> StepLosses:
        """A batch without any instance: a loss of zero that still reaches every trainable parameter."""
        used = [parameter.flatten()[:1].sum() * 0 for parameter in self.parameters() if parameter.requires_grad]
        return StepLosses(total=torch.stack(used).sum(), parts={}, loads={})


def encode_batch(segmenter: Segmenter, batch: Batch, device: torch.device) -> Features:
    """The batch's features: computed, or taken from its cached maps."""
    if batch.maps is not None:
        maps = {name: tensor.to(device).float() for name, tensor in batch.maps.items()}
        return Features(maps=maps, input_size=batch.input_size)
    assert batch.images is not None
    return segmenter.encode(batch.images.to(device))


def no_prompts(num_queries: int, mask_size: tuple[int, ...], device: torch.device) -> Prompts:
    """Queries that come with nothing: one per image, for automatic methods."""
    axes = len(mask_size)
    return Prompts(
        points=torch.zeros(num_queries, 0, axes, device=device),
        point_labels=torch.zeros(num_queries, 0, dtype=torch.int64, device=device),
        boxes=torch.full((num_queries, 2 * axes), torch.nan, device=device),
        masks=None,
        has_mask=torch.zeros(num_queries, dtype=torch.bool, device=device),
        class_index=torch.full((num_queries,), -1, dtype=torch.int64, device=device),
    )


def _sum(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def _loads(output: Output) -> dict[str, Tensor]:
    return {place: routing.load.detach().float() for place, routing in output.routing.items()}
