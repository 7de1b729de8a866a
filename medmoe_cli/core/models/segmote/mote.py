"""Mixture of token experts: the routed half of the decoder's layers, and the tokens' heads (paper section 3.3).

Shapes: Q queries, N expert tokens, E experts, K experts per token, D width, H inner width of an expert, C = D/8 mask
channels. Tokens (N, learned, one of them makes the mask) and experts (E, bottleneck networks) are different things.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from medmoe_cli.core.models.segmote.features import Guidance, HighResolution
from medmoe_cli.core.nn.moe import (
    Experts,
    NoisyRouter,
    Routing,
    balance_loss,
    choose_experts,
    choose_one,
    cv_squared,
    settled_load,
)
from medmoe_cli.core.nn.moe.dispatch import dispatch


class MoteLayer(nn.Module):
    """One layer's router and experts: x + sum over the chosen of G * expert(x)  (eq. 1 to 6, with a residual).

    Args:
        width: D.
        num_experts: E.
        top_k: K.
        expert_width: H.
        shared_tail: experts share the way up from H to D, as in the public code.
    """

    def __init__(self, *, width: int, num_experts: int, top_k: int, expert_width: int, shared_tail: bool) -> None:
        super().__init__()
        self.top_k = top_k
        self.router = NoisyRouter(width, num_experts)
        kind = SharedTailExperts if shared_tail else Experts
        self.experts = kind(num_experts, width=width, hidden=expert_width)

    def forward(self, tokens_QND: Tensor) -> tuple[Tensor, Routing, Tensor]:
        """The tokens after their experts, the routing of the Q*N tokens, and each token's confidence (Q, N) (eq. 4).

        The confidence has the router's noise while training.
        """
        items_XD = tokens_QND.flatten(0, 1)
        logits_XE, scores_XE = self.router(items_XD)
        routing = choose_experts(logits_XE, scores_NE=scores_XE, num_active=self.top_k)
        mixed_XD = self.experts(items_XD, routing)
        return tokens_QND + mixed_XD.view_as(tokens_QND), routing, scores_XE.amax(dim=-1).view(tokens_QND.shape[:2])


class SharedTailExperts(nn.Module):
    """Experts that own their way down, D to H, and share three layers up, H to H to H to D, as in the public code.

    The public code's are linear throughout, which makes each of them one matrix; here they are not.
    """

    def __init__(self, num_experts: int, *, width: int, hidden: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.weight_in = nn.Parameter(torch.empty(num_experts, width, hidden))
        self.bias_in = nn.Parameter(torch.zeros(num_experts, hidden))
        self.tail = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        nn.init.trunc_normal_(self.weight_in, std=width**-0.5)

    def forward(self, items_XD: Tensor, routing: Routing) -> Tensor:
        """The gated sum of each item's chosen experts, (X, D)."""
        plan = dispatch(routing, self.num_experts)
        hidden = [
            torch.addmm(bias, block, weight)
            for block, weight, bias in zip(
                plan.gather(items_XD), self.weight_in.unbind(), self.bias_in.unbind(), strict=True
            )
        ]
        return plan.combine([self.tail(F.gelu(torch.cat(hidden)))], routing.gates)


class TokenHeads(nn.Module):
    """One three-layer MLP per expert token, D to D to D to C: SAM's hypernetworks, all tokens at once.

    Args:
        num_tokens: N.
        width: D.
        channels: C; None for D/8, SAM's mask channels.
    """

    def __init__(self, *, num_tokens: int, width: int, channels: int | None = None) -> None:
        super().__init__()
        sizes = ((width, width), (width, width), (width, channels or width // 8))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(num_tokens, i, o)) for i, o in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(num_tokens, 1, o)) for _, o in sizes)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = weight.shape[1] ** -0.5  # nn.Linear's own
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    def forward(self, tokens_QND: Tensor) -> Tensor:
        """(Q, N, D) to (Q, N, C)."""
        x = tokens_QND.transpose(0, 1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if index < len(self.weights) - 1:
                x = x.relu()
        return x.transpose(0, 1)

    @torch.no_grad()
    def soften(self, factor: float) -> None:
        """Scale the last layers, so that the first answers are faint."""
        self.weights[-1].mul_(factor)
        self.biases[-1].mul_(factor)

    @torch.no_grad()
    def copy_from(self, head: MLP) -> None:
        """Begin every token's head as a copy of one of SAM's."""
        for weight, bias, linear in zip(self.weights, self.biases, head.layers, strict=True):
            weight.copy_(linear.weight.t().expand_as(weight))
            bias.copy_(linear.bias.expand_as(bias))


class Mote(nn.Module):
    """Everything SegMoTE adds to the mask decoder: tokens, routed layers, heads, high-resolution features."""

    def __init__(
        self,
        *,
        width: int,
        num_layers: int,
        num_tokens: int,
        num_experts: int,
        top_k: int,
        expert_width: int,
        shared_tail: bool,
        encoder_width: int | None,
        stem_width: int | None = None,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.tokens = nn.Parameter(torch.randn(num_tokens, width))  # as nn.Embedding starts SAM's
        self.layers = nn.ModuleList(
            MoteLayer(
                width=width,
                num_experts=num_experts,
                top_k=top_k,
                expert_width=expert_width,
                shared_tail=shared_tail,
            )
            for _ in range(num_layers)
        )
        self.heads = TokenHeads(num_tokens=num_tokens, width=width)
        self.high_resolution = (
            None
            if encoder_width is None
            else HighResolution(width=width, encoder_width=encoder_width, stem_width=stem_width)
        )
        self.guidance = Guidance(width=width) if guided else None
        if guided:
            self.heads.soften(0.1)  # begin with the drawn prompt

    def mask_features(
        self, upscaled_QChw: Tensor, image_features_QChw: Tensor | None, drawn_QMhw: Tensor | None
    ) -> Tensor:
        """What the tokens' heads are multiplied with, (Q, C, 4h, 4w).

        Args:
            upscaled_QChw: SAM's.
            image_features_QChw: of `high_resolution.image`; None without it.
            drawn_QMhw: maps of the prompts; None without guidance.
        """
        features_QChw = upscaled_QChw
        if self.high_resolution is not None and image_features_QChw is not None:
            features_QChw = self.high_resolution(upscaled_QChw, image_features_QChw)
        if self.guidance is not None and drawn_QMhw is not None:
            features_QChw = self.guidance(features_QChw, drawn_QMhw)
        return features_QChw

    @torch.no_grad()
    def start_from_sam(self, mask_token_D: Tensor, head: MLP) -> None:
        """Begin as near to SAM's single-mask output as the routed layers allow; a little noise tells tokens apart."""
        spread = 0.1 * mask_token_D.std()
        self.tokens.copy_(mask_token_D + spread * torch.randn_like(self.tokens))
        self.heads.copy_from(head)
        if self.high_resolution is not None:
            self.high_resolution.start_at_zero()


def choose_token(confidence_QN: Tensor, *, noisy_QN: Tensor | None = None) -> tuple[Tensor, Routing]:
    """Pick the token with the highest confidence in the last layer (paper 3.3).

    Only the chosen token's head is used, so its weight of one is straight-through: its gradient is that of the softmax
    over the tokens, and the tokens not chosen can become chosen.

    Args:
        confidence_QN: without the routers' noise.
        noisy_QN: with it, to decide by; None for the confidence.

    Returns:
        Weights (Q, N), one-hot in value, and the routing of Q queries to N tokens.
    """
    noisy_QN = confidence_QN if noisy_QN is None else noisy_QN
    return choose_one(noisy_QN), choose_experts(confidence_QN, scores_NE=noisy_QN, num_active=1)


def balance_losses(
    routing: Mapping[str, Routing], choice: Routing, *, expert_weight: float, token_weight: float
) -> dict[str, Tensor]:
    """CV^2 of the experts' importance and load summed over the layers (eq. 7 to 9), and CV^2 of the tokens' use.

    Args:
        routing: by layer, of tokens to experts.
        choice: of queries to tokens.
        expert_weight: of the experts' loss; 0 leaves it out.
        token_weight: of the tokens', likewise.
    """
    losses: dict[str, Tensor] = {}
    if expert_weight:
        losses["expert_balance"] = expert_weight * torch.stack([balance_loss(one) for one in routing.values()]).sum()
    if token_weight:
        losses["token_balance"] = token_weight * cv_squared(settled_load(choice))
    return losses
