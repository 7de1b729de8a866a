"""Inference over the Segmenter interface: encode images once, answer many queries, in bounded batches.

On the CPU every image is encoded alone and its queries are decoded together, whatever else is predicted, so a mask
never depends on its neighbours or their order, to the last bit. On a GPU images share batches; there results agree
within rounding. Automatic methods may be shown mirrored views of each image as well; the views of one image are
encoded together, and their answers are averaged. Of a model whose names compete (`Segmenter.rivals`) all of them are
asked, in one order, whichever are wanted: the answer to a name is the same alone and in any company.

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
from medmoe_cli.core.nn.prompts import QueryPrompt, collate
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts, Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the network says about Q queries of one image, on its input grid.

    Attributes:
        probabilities: float32 (Q, C, S, S): sigmoid for C = 1 (of competing names, that of the choice among them and
            none), softmax over C otherwise; averaged over views.
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
        rivals = self.segmenter.rivals
        named_Q = prompts.by_name_alone & (prompts.class_index < rivals)
        if not named_Q.any():
            return self._answer(self._decoded(features, prompts), share=features.num_images)
        outputs = self._decoded(features, _names(rivals, mask_size=self.segmenter.mask_size))
        others = (~named_Q).nonzero()[:, 0]
        if len(others):
            outputs += self._decoded(features, _rows(prompts, others))
        place_Q = torch.where(named_Q, prompts.class_index, rivals + (~named_Q).cumsum(0) - 1)
        return self._answer(outputs, place_Q=place_Q)

    def _decoded(self, features: Features, prompts: Prompts) -> list[Output]:
        """The answers to Q queries of every view, those of a view together."""
        outputs: list[Output] = []
        rows = torch.arange(features.num_images * prompts.num_queries)
        for part in rows.split(self.queries_per_batch):
            queries = _rows(prompts, part % prompts.num_queries).to(self.compute.device)
            views = (part // prompts.num_queries).to(self.compute.device)
            with self.compute.autocast():
                outputs.append(self.segmenter.decode(features.take(views), queries))
        return outputs

    def _answer(self, outputs: Sequence[Output], *, share: int = 1, place_Q: Tensor | None = None) -> Answer:
        """What was decoded, as an answer: of `share` views, or of those at `place_Q` where names compete."""
        logits = torch.cat([output.logits.float() for output in outputs])
        if place_Q is not None:
            probabilities = choices(logits, rivals=self.segmenter.rivals)
        else:
            probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
        wanted = torch.arange(len(logits) // share) if place_Q is None else place_Q.cpu()
        merged = self.mirroring.merge(probabilities.unflatten(0, (share, -1))).cpu()
        scores = _joined([output.scores for output in outputs])
        heat = _joined([output.heat for output in outputs])
        low_res = _joined([output.low_res_logits for output in outputs])
        return Answer(
            probabilities=merged[wanted].numpy(),
            low_res_logits=None if low_res is None else low_res[wanted.to(low_res.device)],
            scores=None if scores is None else scores.float().cpu()[wanted].numpy(),
            routing=_joined_routing(outputs, num_rows=len(logits), wanted=wanted),
            heat=None if heat is None else heat.float().cpu()[wanted].numpy(),
        )


def choices(logits_Q1SS: Tensor, *, rivals: int) -> Tensor:
    """Probabilities of binary answers, the first `rivals` of which compete with each other and with none, (Q, 1, S, S).

    The logit of none is 0, as in training (`losses.choice_loss`); the other answers are judged by themselves.
    """
    competing = logits_Q1SS[:rivals]
    total = torch.cat([torch.zeros_like(competing[:1]), competing]).logsumexp(dim=0)
    return torch.cat([(competing - total).exp(), logits_Q1SS[rivals:].sigmoid()])


def _names(count: int, *, mask_size: tuple[int, ...]) -> Prompts:
    return collate([QueryPrompt(class_index=index) for index in range(count)], mask_size=mask_size)


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


def _joined_routing(outputs: Sequence[Output], *, num_rows: int, wanted: Tensor) -> dict[str, Routing]:
    """The routing by place of the wanted ones among `num_rows` decoded queries."""
    joined: dict[str, Routing] = {}
    for place, first in outputs[0].routing.items():
        parts = [output.routing[place] for output in outputs]
        load = torch.stack([part.load for part in parts]).sum(dim=0)
        joined[place] = Routing(
            gates=_of([part.gates for part in parts], num_rows, wanted),
            indices=_of([part.indices for part in parts], num_rows, wanted),
            logits=_of([part.logits for part in parts], num_rows, wanted),
            probabilities=_of([part.probabilities for part in parts], num_rows, wanted),
            load=load * (len(wanted) / num_rows),
            num_items=first.num_items,
        )
    return joined


def _of(parts: Sequence[Tensor], num_rows: int, wanted: Tensor) -> Tensor:
    """The items of the wanted queries; every query has as many, one after the other."""
    items = torch.cat(list(parts))
    return items.unflatten(0, (num_rows, -1))[wanted.to(items.device)].flatten(0, 1)
