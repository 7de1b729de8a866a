"""Inference over the Segmenter interface: encode images once, answer many queries, in bounded batches.

On the CPU every image is encoded alone and its queries are decoded together, whatever else is predicted, so a mask
never depends on its neighbours or their order, to the last bit. On a GPU images share batches; there results agree
within rounding. Automatic methods may be shown mirrored views of each image as well; the views of one image are
encoded together, and their answers are averaged.

Shapes: B images, V views of an image (1 without mirroring), Q queries, C output channels, S the network's input side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.mirroring import Mirroring
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts, Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the network says about Q queries of one image, on its input grid.

    Attributes:
        probabilities: float32 (Q, C, S, S): sigmoid for C = 1, softmax over C otherwise; averaged over views.
        low_res_logits: (Q, 1, h, w), the next round's mask prompt; None for automatic methods.
        scores: (Q,) predicted quality or presence in [0, 1]; None when the method has none.
        routing: by place, the routers' decisions for these queries (of the image as it is, not of mirrored views).
        heat: (Q, h, w) the routed token's attention; None when the method has none.
    """

    probabilities: NDArray[np.float32]
    low_res_logits: Tensor | None
    scores: NDArray[np.float32] | None
    routing: dict[str, Routing]
    heat: NDArray[np.float32] | None


class Inference:
    """A segmenter on a device, in evaluation mode.

    Args:
        segmenter: is moved to the device.
        compute: device and precision.
        batch_size: network images encoded together (GPU).
        queries_per_batch: queries decoded together.
        mirroring: views to average over; automatic methods only, prompted ones ignore it.
        presence: how likely present a structure asked for by name must be to get a mask; only segmenters whose scores
            are presence know, for others the attribute is None.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        compute: Compute,
        batch_size: int,
        queries_per_batch: int,
        mirroring: Mirroring | None = None,
        presence: float = 0.5,
    ) -> None:
        self.segmenter = segmenter.to(compute.device).eval()
        self.compute = compute
        self.automatic = all(stage.task == "automatic" for stage in segmenter.stages())
        self.mirroring = mirroring if mirroring is not None and self.automatic else Mirroring()
        self.batch_size = max(batch_size // self.mirroring.num_views, 1) if compute.device.type == "cuda" else 1
        self.queries_per_batch = queries_per_batch
        self.presence = presence if segmenter.scores_are_presence else None

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Encode images (C, S, S); one Features of V rows each, in order."""
        encoded: list[Features] = []
        num_views = self.mirroring.num_views
        for start in range(0, len(images), self.batch_size):
            batch = torch.from_numpy(np.stack(images[start : start + self.batch_size])).to(self.compute.device)
            views = self.mirroring.views(batch).flatten(0, 1)
            with self.compute.autocast():
                features = self.segmenter.encode(views)
            rows = torch.arange(views.shape[0], device=views.device)
            encoded += [features.take(rows[row : row + num_views]) for row in range(0, len(rows), num_views)]
        return encoded

    @torch.inference_mode()
    def answer(self, features: Features, prompts: Prompts) -> Answer:
        """Answer Q queries about one image, whose features have one row per view."""
        outputs: list[Output] = []
        num_queries, num_views = prompts.num_queries, features.num_images
        rows = torch.arange(num_views * num_queries)
        for part in rows.split(self.queries_per_batch):
            queries = _rows(prompts, part % num_queries).to(self.compute.device)
            views = (part // num_queries).to(self.compute.device)
            with self.compute.autocast():
                outputs.append(self.segmenter.decode(features.take(views), queries))
        logits = torch.cat([output.logits.float() for output in outputs])
        probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
        merged = self.mirroring.merge(probabilities.unflatten(0, (num_views, num_queries)))
        scores = _joined([output.scores for output in outputs])
        heat = _joined([output.heat for output in outputs])
        low_res = _joined([output.low_res_logits for output in outputs])
        return Answer(
            probabilities=merged.cpu().numpy(),
            low_res_logits=None if low_res is None else low_res[:num_queries],
            scores=None if scores is None else scores[:num_queries].float().cpu().numpy(),
            routing=_joined_routing(outputs, share=num_views),
            heat=None if heat is None else heat[:num_queries].float().cpu().numpy(),
        )


def _rows(prompts: Prompts, rows: Tensor) -> Prompts:
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


def _joined_routing(outputs: Sequence[Output], *, share: int) -> dict[str, Routing]:
    """The queries' routing by place; of `share` views, which come one after the other, the first."""
    joined: dict[str, Routing] = {}
    for place, first in outputs[0].routing.items():
        parts = [output.routing[place] for output in outputs]
        joined[place] = Routing(
            gates=_first_share([part.gates for part in parts], share),
            indices=_first_share([part.indices for part in parts], share),
            logits=_first_share([part.logits for part in parts], share),
            probabilities=_first_share([part.probabilities for part in parts], share),
            load=torch.stack([part.load for part in parts]).sum(dim=0) / share,
            num_items=first.num_items,
        )
    return joined


def _first_share(parts: Sequence[Tensor], share: int) -> Tensor:
    rows = torch.cat(list(parts))
    return rows[: len(rows) // share]
