"""Experts that share a feed-forward network and differ by low-rank deltas (DA-SAM3 DPE).

Items that chose the same set of experts lie together, so an expert's work is a few matrix products over contiguous
rows; items are sorted once, as narrow as they come in, and the wide hidden layer is only ever held for one block.
Shapes: N items, E experts, K chosen, D width, H hidden width, R rank; n items of a block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.moe.experts import Activation
from medmoe_cli.core.nn.moe.routing import Routing

_CPU_BLOCK = 512  # items whose hidden layer stays in a core's cache; on a GPU a group is one block


class LowRankExperts(nn.Module):
    """E experts of one feed-forward network.

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
        # Each item's experts in ascending order: then items with the same set have the same row.
        indices_NK, slots_NK = routing.indices.sort(dim=-1)
        gates_NK = routing.gates.gather(-1, slots_NK)
        sets, order_N, counts = _grouped(indices_NK)
        sorted_ND, gates_NK = items_ND[order_N], gates_NK[order_N]
        parts, start = [], 0
        block = _CPU_BLOCK if items_ND.device.type == "cpu" else len(items_ND)
        for experts, count in zip(sets, counts, strict=True):
            for low in range(start, start + count, block):
                rows = slice(low, min(low + block, start + count))
                parts.append(
                    self._block(
                        sorted_ND[rows], gates_NK[rows], experts, first=first, activation=activation, second=second
                    )
                )
            start += count
        if not parts:  # no item at all: an empty answer, with a gradient of zero for everyone
            everything = sum(parameter.sum() for parameter in self.parameters())
            return second(activation(first(items_ND))) + 0 * everything
        back_N = torch.empty_like(order_N)
        back_N[order_N] = torch.arange(len(order_N), device=order_N.device)
        return torch.cat(parts)[back_N]

    def _block(
        self,
        items_nD: Tensor,
        gates_nK: Tensor,
        experts: list[int],
        *,
        first: nn.Linear,
        activation: Activation,
        second: nn.Linear,
    ) -> Tensor:
        base_nH = F.linear(items_nD, first.weight, first.bias)
        total_nH: Tensor | None = None
        delta_nD: Tensor | None = None
        for slot, expert in enumerate(experts):
            low_nR = items_nD @ self.a_in[expert]
            hidden_nH = activation(torch.addmm(base_nH, low_nR, self.b_in[expert]))
            gate_n1 = gates_nK[:, slot, None].to(hidden_nH.dtype)
            # The gate is applied to each product by itself, so that backward keeps one hidden layer per choice.
            own_nD = ((hidden_nH @ self.a_out[expert]) * gate_n1) @ self.b_out[expert]
            if torch.is_grad_enabled():
                gated_nH = hidden_nH * gate_n1
                total_nH = gated_nH if total_nH is None else total_nH + gated_nH
            else:  # nothing is kept: the same in place
                total_nH = hidden_nH.mul_(gate_n1) if total_nH is None else total_nH.addcmul_(hidden_nH, gate_n1)
            delta_nD = own_nD if delta_nD is None else delta_nD + own_nD
        assert total_nH is not None
        assert delta_nD is not None
        return F.linear(total_nH, second.weight, second.bias) + delta_nD


def _grouped(indices_NK: Tensor) -> tuple[list[list[int]], Tensor, list[int]]:
    """The sets of experts that occur, the items ordered by set (stable), and how many items each set has."""
    code_N = indices_NK[:, 0]
    base = int(indices_NK.max()) + 1 if len(indices_NK) else 1
    for column in indices_NK.unbind(1)[1:]:
        code_N = code_N * base + column
    codes, group_N, counts = torch.unique(code_N, return_inverse=True, return_counts=True)
    sets = []
    for code in codes.tolist():
        digits, rest = [], code
        for _ in range(indices_NK.shape[1]):
            digits.append(rest % base)
            rest //= base
        sets.append(digits[::-1])
    return sets, group_N.argsort(stable=True), counts.tolist()
