"""Items sorted by expert, so that each expert works on one contiguous block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medmoe_cli.core.nn.moe.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatch:
    """The order in which choices go to experts.

    Attributes:
        items: (N*K,) the item of each choice, choices sorted by expert.
        places: (N, K) where each choice went in that order.
        counts: choices per expert.
    """

    items: Tensor
    places: Tensor
    counts: tuple[int, ...]

    def gather(self, items_ND: Tensor) -> tuple[Tensor, ...]:
        """Each expert's items, (count, D); empty for an expert that no item chose."""
        return items_ND[self.items].split(self.counts)

    def combine(self, parts: list[Tensor], gates_NK: Tensor) -> Tensor:
        """The gated sum over each item's choices, (N, D), of the experts' answers."""
        answers_NKD = torch.cat(parts)[self.places]
        return (gates_NK.unsqueeze(-1).to(answers_NKD.dtype) * answers_NKD).sum(1)


def dispatch(routing: Routing, num_experts: int) -> Dispatch:
    """Sort a token-choice routing's choices by expert."""
    chosen = routing.indices.flatten()
    order = chosen.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    counts = torch.bincount(chosen, minlength=num_experts).tolist()
    return Dispatch(
        items=order // routing.indices.shape[1], places=places.view_as(routing.indices), counts=tuple(counts)
    )
