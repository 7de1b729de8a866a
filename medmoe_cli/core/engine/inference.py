"""Inference over the Segmenter interface: encode images once, answer many queries, in bounded batches.

On the CPU every image is encoded alone and its queries are decoded together, whatever else is predicted, so a mask
never depends on its neighbours or their order, to the last bit. On a GPU images share batches; there results agree
within rounding.

Shapes: B images, Q queries, C output channels, S the network's input side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts, Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the network says about Q queries of one image, on its input grid.

    Attributes:
        probabilities: float32 (Q, C, S, S): sigmoid for C = 1, softmax over C otherwise.
        low_res_logits: (Q, 1, h, w), the next round's mask prompt; None for automatic methods.
        scores: (Q,) predicted quality in [0, 1]; None when the method has none.
        routing: by place, the routers' decisions for these queries.
        heat: (Q, h, w) the routed token's attention; None when the method has none.
    """

    probabilities: NDArray[np.float32]
    low_res_logits: Tensor | None
    scores: NDArray[np.float32] | None
    routing: dict[str, Routing]
    heat: NDArray[np.float32] | None


class Inference:
    """A segmenter on a device, in evaluation mode."""

    def __init__(self, segmenter: Segmenter, *, compute: Compute, batch_size: int, queries_per_batch: int) -> None:
        self.segmenter = segmenter.to(compute.device).eval()
        self.compute = compute
        self.batch_size = batch_size if compute.device.type == "cuda" else 1
        self.queries_per_batch = queries_per_batch

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Encode images (C, S, S); one Features of one row each, in order."""
        encoded: list[Features] = []
        for start in range(0, len(images), self.batch_size):
            batch = torch.from_numpy(np.stack(images[start : start + self.batch_size])).to(self.compute.device)
            with self.compute.autocast():
                features = self.segmenter.encode(batch)
            rows = torch.arange(batch.shape[0], device=batch.device)
            encoded += [features.take(rows[row : row + 1]) for row in range(batch.shape[0])]
        return encoded

    @torch.inference_mode()
    def answer(self, features: Features, prompts: Prompts) -> Answer:
        """Answer Q queries about one image (`features` of one row)."""
        outputs: list[Output] = []
        for start in range(0, prompts.num_queries, self.queries_per_batch):
            part = _rows(prompts, slice(start, start + self.queries_per_batch)).to(self.compute.device)
            index = torch.zeros(part.num_queries, dtype=torch.long, device=self.compute.device)
            with self.compute.autocast():
                outputs.append(self.segmenter.decode(features.take(index), part))
        logits = torch.cat([output.logits.float() for output in outputs])
        probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
        scores = _joined([output.scores for output in outputs])
        heat = _joined([output.heat for output in outputs])
        return Answer(
            probabilities=probabilities.cpu().numpy(),
            low_res_logits=_joined([output.low_res_logits for output in outputs]),
            scores=None if scores is None else scores.float().cpu().numpy(),
            routing=_joined_routing(outputs),
            heat=None if heat is None else heat.float().cpu().numpy(),
        )


def _rows(prompts: Prompts, rows: slice) -> Prompts:
    return Prompts(
        points=prompts.points[rows],
        point_labels=prompts.point_labels[rows],
        boxes=prompts.boxes[rows],
        masks=None if prompts.masks is None else prompts.masks[rows],
        has_mask=prompts.has_mask[rows],
        class_index=prompts.class_index[rows],
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _joined_routing(outputs: Sequence[Output]) -> dict[str, Routing]:
    joined: dict[str, Routing] = {}
    for place in outputs[0].routing:
        parts = [output.routing[place] for output in outputs]
        joined[place] = Routing(
            gates=torch.cat([part.gates for part in parts]),
            indices=torch.cat([part.indices for part in parts]),
            logits=torch.cat([part.logits for part in parts]),
            probabilities=torch.cat([part.probabilities for part in parts]),
            load=torch.stack([part.load for part in parts]).sum(dim=0),
        )
    return joined
