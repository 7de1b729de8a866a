"""Experts as stacked parameters, run in groups: one matrix product per expert, none per item.

An expert that no item chose takes part with an empty block, so its gradient is a defined zero.
Shapes: N items, E experts, K chosen, D width, H hidden width, R rank; G groups of n items.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.moe.dispatch import dispatch
from medmoe_cli.core.nn.moe.routing import Routing

Activation = Callable[[Tensor], Tensor]


class Experts(nn.Module):
    """E two-layer perceptrons D -> H -> D (MoE-SAM eq. 5; SegMoTE's bottleneck experts).

    Args:
        num_experts: E.
        width: D.
        hidden: H; smaller than D for bottleneck experts.
        activation: between the two layers.
    """

    def __init__(self, num_experts: int, *, width: int, hidden: int, activation: Activation = F.gelu) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.activation = activation
        self.weight_in = nn.Parameter(torch.empty(num_experts, width, hidden))
        self.bias_in = nn.Parameter(torch.zeros(num_experts, hidden))
        self.weight_out = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.bias_out = nn.Parameter(torch.zeros(num_experts, width))
        nn.init.normal_(self.weight_in, std=width**-0.5)
        nn.init.normal_(self.weight_out, std=hidden**-0.5)

    def forward(self, items_ND: Tensor, routing: Routing) -> Tensor:
        """Token-choice: the gated sum of each item's chosen experts, (N, D)."""
        plan = dispatch(routing, self.num_experts)
        answers = [
            torch.addmm(bias_out, self.activation(torch.addmm(bias_in, block, weight_in)), weight_out)
            for block, weight_in, bias_in, weight_out, bias_out in zip(
                plan.gather(items_ND),
                self.weight_in.unbind(),
                self.bias_in.unbind(),
                self.weight_out.unbind(),
                self.bias_out.unbind(),
                strict=True,
            )
        ]
        return plan.combine(answers, routing.gates)

    def forward_chosen(self, items_GnD: Tensor, routing: Routing) -> Tensor:
        """Expert-choice: every item's gated sum over the experts that chose it (MoE-SAM eq. 6).

        Returns:
            (G, n, D); zero for an item that no expert chose.
        """
        groups, num_items, width = items_GnD.shape
        num_active = routing.indices.shape[-1]
        start_G11 = torch.arange(groups, device=items_GnD.device).view(-1, 1, 1) * num_items
        rows_ER = (routing.indices + start_G11).transpose(0, 1).reshape(self.num_experts, groups * num_active)
        chosen_ERD = items_GnD.reshape(-1, width)[rows_ER]
        hidden_ERH = self.activation(torch.baddbmm(self.bias_in.unsqueeze(1), chosen_ERD, self.weight_in))
        answers_ERD = torch.baddbmm(self.bias_out.unsqueeze(1), hidden_ERH, self.weight_out)
        gates_ER = routing.gates.transpose(0, 1).reshape(self.num_experts, -1)
        weighted_ERD = gates_ER.unsqueeze(-1).to(answers_ERD.dtype) * answers_ERD
        total = weighted_ERD.new_zeros(groups * num_items, width)
        return total.index_add(0, rows_ER.flatten(), weighted_ERD.flatten(0, 1)).view(groups, num_items, width)


class LowRankExperts(nn.Module):
    """E experts that share a feed-forward network and differ by low-rank deltas on both of its layers (DA-SAM3 DPE).

    h_i = act(W1 x + b1 + B1_i A1_i x); y = W2 (sum p_i h_i) + b2 + sum p_i B2_i A2_i h_i. W2 is linear and shared, so
    both base products run once per item, whatever the number of experts.
    A is random and different for each expert, B zero: all experts start as the base network, and gradients flow. (With
    both zero, as in the paper, no expert could ever receive a gradient.)
    """

    def __init__(self, num_experts: int, *, width: int, hidden: int, rank: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.a_in = nn.Parameter(torch.empty(num_experts, width, rank))
        self.b_in = nn.Parameter(torch.zeros(num_experts, rank, hidden))
        self.a_out = nn.Parameter(torch.empty(num_experts, hidden, rank))
        self.b_out = nn.Parameter(torch.zeros(num_experts, rank, width))
        nn.init.normal_(self.a_in, std=width**-0.5)
        nn.init.normal_(self.a_out, std=hidden**-0.5)

    def forward(
        self, items_ND: Tensor, routing: Routing, *, first: nn.Linear, activation: Activation, second: nn.Linear
    ) -> Tensor:
        """The gated sum of each item's chosen experts, (N, D).

        Args:
            items_ND: the network's input.
            routing: token-choice; gates sum to one.
            first: the base network's first layer, D -> H; owned by the caller.
            activation: the base network's.
            second: the base network's second layer, H -> D; owned by the caller.
        """
        plan = dispatch(routing, self.num_experts)
        bases = plan.gather(first(items_ND))
        hidden, deltas = [], []
        for block, base, a_in, b_in, a_out, b_out in zip(
            plan.gather(items_ND),
            bases,
            self.a_in.unbind(),
            self.b_in.unbind(),
            self.a_out.unbind(),
            self.b_out.unbind(),
            strict=True,
        ):
            hidden.append(activation(base + (block @ a_in) @ b_in))
            deltas.append((hidden[-1] @ a_out) @ b_out)
        return second(plan.combine(hidden, routing.gates)) + plan.combine(deltas, routing.gates)
