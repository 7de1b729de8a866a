"""What a decoder is asked: the features of each query's image and its encoded prompts, and the classes prompts name.

Shapes: Q queries, C width, S token slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medmoe_cli.core.models.sam_med3d_moe.config import ExpertEntry
from medmoe_cli.core.models.sam_med3d_moe.decoder import Detail, DetailDecoder
from medmoe_cli.core.nn.sam3d import MaskDecoder3d, PromptTokens
from medmoe_cli.core.nn.segmenter import Prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Q queries, encoded.

    Attributes:
        embedding: (Q, C, s, s, s).
        positions: (1, C, s, s, s).
        sparse: prompt tokens.
        dense: (Q, C, s, s, s).
        detail: with a convolutional stem.
    """

    embedding: Tensor
    positions: Tensor
    sparse: PromptTokens
    dense: Tensor
    detail: Detail | None

    def rows(self, rows_N: Tensor) -> Asked:
        """Some of the queries."""
        detail = self.detail
        if detail is not None:
            drawn = None if detail.drawn is None else detail.drawn[rows_N]
            detail = Detail(at1=detail.at1[rows_N], at2=detail.at2[rows_N], drawn=drawn)
        return replace(
            self,
            embedding=self.embedding[rows_N],
            sparse=PromptTokens(values=self.sparse.values[rows_N], used=self.sparse.used[rows_N]),
            dense=self.dense[rows_N],
            detail=detail,
        )

    def with_token(self, token_QC: Tensor, used_Q: Tensor) -> Asked:
        """The same with a query token behind the prompts, for the queries that use it."""
        return replace(self, sparse=self.sparse.append(token_QC[:, None].to(self.sparse.values.dtype), used_Q[:, None]))

    def answered_by(self, decoder: MaskDecoder3d) -> Tensor:
        """Logits (Q, 1, g, g, g) on the decoder's own grid."""
        if isinstance(decoder, DetailDecoder):
            assert self.detail is not None
            logits = decoder.answer(self.embedding, self.positions, self.sparse, self.dense, self.detail)
        else:
            logits, _ = decoder(self.embedding, self.positions, self.sparse, self.dense, multimask=False)
        return logits.float()


class ClassOwners(nn.Module):
    """Which expert and which of its query tokens a class name stands for.

    Args:
        class_names: the model's, in label order.
        experts: in order; where two have a class of one name, the earlier one has it, so that adding an expert
            changes nothing.
    """

    def __init__(self, class_names: Sequence[str], experts: Sequence[ExpertEntry]) -> None:
        super().__init__()
        owners: dict[str, tuple[int, int]] = {}
        for index, entry in enumerate(experts):
            for row, name in enumerate(entry.classes):
                owners.setdefault(name, (index, row))
        self.class_names = tuple(class_names)
        self.promptable = tuple(name for name in class_names if name in owners)
        self.expert_C: Tensor
        self.row_C: Tensor
        # Facts of the config, not weights: they are not saved.
        # A general model may know no class at all: it is asked by prompts alone, and its one row is never used.
        places_C2 = torch.tensor([owners.get(name, (-1, 0)) for name in class_names] or [(-1, 0)])
        self.register_buffer("expert_C", places_C2[:, 0].clone(), persistent=False)
        self.register_buffer("row_C", places_C2[:, 1].clone(), persistent=False)

    @property
    def answers_nothing(self) -> bool:
        """There is one class and an expert for it: a query that comes with nothing can only mean that class."""
        return len(self.class_names) == 1 and bool(self.promptable)

    def named(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """(Q,) index of the expert whose class each query names, -1 for none, and (Q,) the class's row in it, or 0."""
        class_Q = prompts.class_index
        if self.answers_nothing:
            class_Q = torch.where(prompts.self_prompted, torch.zeros_like(class_Q), class_Q)
        known_Q = class_Q.clamp(min=0)
        expert_Q = torch.where(class_Q >= 0, self.expert_C[known_Q], -1)
        return expert_Q, torch.where(expert_Q >= 0, self.row_C[known_Q], 0)


def lacks_prompt(prompts: Prompts) -> Tensor:
    """(Q,) bool: no click, no box and no mask, whatever class is named."""
    no_points = (prompts.point_labels == -1).all(dim=1)
    return no_points & prompts.boxes.isnan().any(dim=1) & ~prompts.has_mask


def first_prompts(prompts: Prompts, count: int) -> Prompts:
    """The first `count` of each query's box and clicks, in that order, and no mask."""
    used_QN = prompts.point_labels != -1
    has_box_Q1 = ~prompts.boxes.isnan().any(dim=1, keepdim=True)
    kept_QN = used_QN.cumsum(1) + has_box_Q1 <= count
    return replace(
        prompts,
        point_labels=torch.where(kept_QN, prompts.point_labels, -1),
        masks=None,
        has_mask=torch.zeros_like(prompts.has_mask),
    )
