"""Experts as stacked parameters, run in groups: one matrix product per expert, none per item.

An expert that no item chose takes part with an empty block, so its gradient is a defined zero.
Shapes: N items, E experts, K chosen, D width, H hidden width; G groups of n items.
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
