"""Routers: token-choice noisy top-k, expert-choice top-k and the threshold selector.

Papers: SegMoTE eq. 1-5 (token-choice), MoE-SAM eq. 2-4 (expert-choice), SAM-Med3D-MoE section 2.2 (selector).
Differs: 1. gates are a softmax over experts, with a straight-through gradient, so that a router with k = 1 learns; a
            softmax over the single chosen score is the constant 1 (tests/properties/test_routing.py).
         2. ties go to the lowest index, in every batch alike.
Everything here treats a row (or a group) alone: what an item is routed to never depends on its neighbours.
Shapes: see routing.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.moe.routing import Routing

NOISE_FLOOR = 1e-2  # epsilon of SegMoTE eq. 2


class NoisyRouter(nn.Module):
    """Scores items for experts, with learned noise while training (SegMoTE eq. 1 and 2).

    Args:
        width: channels of an item.
        num_experts: experts to score.
        noise: False for a router that never explores.
    """

    def __init__(self, width: int, num_experts: int, *, noise: bool = True) -> None:
        super().__init__()
        self.gate = nn.Linear(width, num_experts, bias=False)
        self.noise = nn.Linear(width, num_experts, bias=False) if noise else None
        nn.init.normal_(self.gate.weight, std=width**-0.5)
        if self.noise is not None:
            nn.init.zeros_(self.noise.weight)

    def forward(self, items: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Score items (..., D).

        Returns:
            (logits, scores), both (..., E): without and with noise; the same tensor in evaluation.
        """
        logits = self.gate(items)
        if self.noise is None or not self.training:
            return logits, logits
        scale = F.softplus(self.noise(items)) + NOISE_FLOOR
        draw = torch.randn(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
        return logits, logits + scale * draw


def choose_experts(
    logits_NE: Tensor, *, num_active: int, scores_NE: Tensor | None = None, straight_through: bool = True
) -> Routing:
    """Token-choice: each item takes its `num_active` best experts.

    Args:
        logits_NE: scores without noise.
        num_active: K, 1 <= K <= E.
        scores_NE: scores to decide by, with noise; None for the logits.
        straight_through: gates have the gradient of the softmax over all experts instead of that over the chosen.
    """
    scores_NE = logits_NE if scores_NE is None else scores_NE
    num_experts = logits_NE.shape[-1]
    if not 1 <= num_active <= num_experts:
        raise ValueError(f"num_active {num_active} with {num_experts} experts")
    order_NE = scores_NE.detach().sort(dim=-1, descending=True, stable=True).indices
    indices_NK = order_NE[:, :num_active]
    gates_NK = scores_NE.gather(-1, indices_NK).softmax(-1)
    probabilities_NE = scores_NE.softmax(-1)
    if straight_through:
        gates_NK = pass_through(gates_NK, probabilities_NE.gather(-1, indices_NK))
    return Routing(
        gates=gates_NK,
        indices=indices_NK,
        logits=logits_NE,
        probabilities=probabilities_NE,
        load=_count(indices_NK, num_experts, like=logits_NE),
    )


def choose_items(logits_GnE: Tensor, *, num_active: int, scores_GnE: Tensor | None = None) -> Routing:
    """Expert-choice: each expert takes its `num_active` best items of every group (MoE-SAM eq. 2-4).

    Args:
        logits_GnE: scores without noise.
        num_active: K, 1 <= K <= n.
        scores_GnE: scores to decide by, with noise; None for the logits.
    """
    scores_GnE = logits_GnE if scores_GnE is None else scores_GnE
    groups, num_items, num_experts = logits_GnE.shape
    if not 1 <= num_active <= num_items:
        raise ValueError(f"num_active {num_active} with {num_items} items")
    scores_GEn = scores_GnE.transpose(1, 2)
    order_GEn = scores_GEn.detach().sort(dim=-1, descending=True, stable=True).indices
    indices_GEK = order_GEn[..., :num_active]
    return Routing(
        gates=scores_GEn.gather(-1, indices_GEK).softmax(-1),
        indices=indices_GEK,
        logits=logits_GnE,
        probabilities=scores_GnE.softmax(-1),
        load=logits_GnE.new_full((num_experts,), groups * num_active),
    )


def select_above(logits_NE: Tensor, *, threshold: float) -> Routing:
    """Selector: expert 0 is the general one; the best other joins when its probability exceeds the threshold.

    Returns:
        Routing with K = 2, indices (0, best specific) and gates (1 - s, s) where s > threshold, (1, 0) elsewhere; a
        gate of zero means that the expert need not run. `load` counts those that do.
    """
    if logits_NE.shape[-1] < 2:
        raise ValueError("the selector needs the general expert and at least one specific expert")
    probabilities_NE = logits_NE.softmax(-1)
    best_N = probabilities_NE[:, 1:].detach().argmax(-1) + 1
    share_N = probabilities_NE.gather(-1, best_N[:, None])[:, 0]
    opened_N = share_N > threshold
    share_N = torch.where(opened_N, share_N, torch.zeros_like(share_N))
    load = _count(best_N[opened_N], logits_NE.shape[-1], like=logits_NE)
    load[0] = len(logits_NE)
    return Routing(
        gates=torch.stack([1 - share_N, share_N], -1),
        indices=torch.stack([torch.zeros_like(best_N), best_N], -1),
        logits=logits_NE,
        probabilities=probabilities_NE,
        load=load,
    )


def pass_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `soft` (straight-through estimator)."""
    return (hard - soft).detach() + soft


def choose_one(scores_BT: Tensor) -> Tensor:
    """One-hot (B, T) of the best score per row, with the gradient of the softmax over T."""
    best_B = scores_BT.detach().sort(dim=-1, descending=True, stable=True).indices[:, 0]
    return pass_through(F.one_hot(best_B, scores_BT.shape[-1]).to(scores_BT.dtype), scores_BT.softmax(-1))


def _count(indices: Tensor, num_experts: int, *, like: Tensor) -> Tensor:
    return torch.bincount(indices.flatten(), minlength=num_experts).to(like.dtype)
