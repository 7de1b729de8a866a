"""MoE-driven feature enhancing block: experts choose among the layers' features (paper section 2, eq. 2-6).

Differs from the public code, whose experts chose among all tokens of the whole batch (gates of 1/9408, a result that
depended on the batch): see `model.py` for the list and the tests.

Shapes: B images, n encoder layers, h w token grid, L = h*w, V encoder width, D embedding width, E experts, k chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from medmoe_cli.core.nn.moe import Experts, NoisyRouter, Routing, choose_items
from medmoe_cli.core.nn.sam2d import build_neck

_QUERY_CHUNK = 512  # rows of an attention matrix held at a time, for its picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Fused:
    """The auxiliary embedding (B, D, h, w), what the experts chose, and the tokens that the attention saw (B, T, V)."""

    auxiliary: Tensor
    routing: Routing | None = None
    attended: Tensor | None = None


class AddFusion(nn.Module):
    """Table 3's comparison: the features of all layers added, then the neck."""

    def __init__(self, *, encoder_width: int, width: int) -> None:
        super().__init__()
        self.neck = silent_neck(encoder_width, width)

    def forward(self, layers_BnhwV: Tensor) -> Fused:
        """Sum over the layers."""
        return Fused(auxiliary=self.neck(layers_BnhwV.sum(dim=1).permute(0, 3, 1, 2)))


class MoeFusion(nn.Module):
    """The feature enhancing block.

    Args:
        encoder_width: V.
        width: D.
        num_experts: E.
        num_active: k of the n layers; experts that choose among an image's tokens take k * h * w of n * h * w.
        hidden: inner width of an expert.
        group: where experts choose: at each location among its n layers, or among all tokens of an image.
        residual: add the routed features to what the experts made of them; without, an unchosen layer is zero.
        noise: learned noise on the scores while training.
        norm: normalise features first.
        attention: over the locations of the layers' mean, or over all layers' tokens, averaged afterwards.
        num_heads: of that attention.
        attention_residual: add its input to its output.
    """

    def __init__(
        self,
        *,
        encoder_width: int,
        width: int,
        num_experts: int,
        num_active: int,
        hidden: int,
        group: Literal["location", "image"],
        residual: bool,
        noise: bool,
        norm: bool,
        attention: Literal["fused", "all_layers"],
        num_heads: int,
        attention_residual: bool,
    ) -> None:
        super().__init__()
        self.num_active, self.group, self.residual = num_active, group, residual
        self.over_all_layers, self.attention_residual = attention == "all_layers", attention_residual
        self.norm = nn.LayerNorm(encoder_width) if norm else None
        self.router = NoisyRouter(encoder_width, num_experts, noise=noise)
        self.experts = Experts(num_experts, width=encoder_width, hidden=hidden, activation=F.relu)
        self.attention = SelfAttention(encoder_width, num_heads=num_heads)
        self.neck = silent_neck(encoder_width, width)

    def forward(self, layers_BnhwV: Tensor) -> Fused:
        """Route, attend, average, and bring to the embedding's width."""
        grid = layers_BnhwV.shape[2:4]
        features_BnLV = layers_BnhwV.flatten(2, 3)
        if self.norm is not None:
            features_BnLV = self.norm(features_BnLV)
        enhanced_BnLV, routing = self.route(features_BnLV)
        tokens_BTV = enhanced_BnLV.flatten(1, 2) if self.over_all_layers else enhanced_BnLV.mean(dim=1)
        mixed_BTV = self.attention(tokens_BTV)
        if self.attention_residual:
            mixed_BTV = mixed_BTV + tokens_BTV
        mixed_BLV = mixed_BTV.unflatten(1, (-1, features_BnLV.shape[2])).mean(dim=1)
        auxiliary_BDhw = self.neck(mixed_BLV.transpose(1, 2).unflatten(2, grid))
        if self.group == "image":  # for the record, a choice is one of the layers, wherever it was made
            layers, places = features_BnLV.shape[1:3]
            routing = replace(routing, indices=routing.indices // places, num_items=layers)
        return Fused(auxiliary=auxiliary_BDhw, routing=routing, attended=tokens_BTV)

    def route(self, features_BnLV: Tensor) -> tuple[Tensor, Routing]:
        """Eq. 2-6. An item is a layer (location) or layer * L + location (image); nothing sees another image."""
        images, layers, places, _ = features_BnLV.shape
        if self.group == "location":
            items_GNV, active = features_BnLV.transpose(1, 2).flatten(0, 1), self.num_active
        else:
            items_GNV, active = features_BnLV.flatten(1, 2), self.num_active * places
        logits_GNE, scores_GNE = self.router(items_GNV)
        routing = choose_items(logits_GNE, num_active=active, scores_GnE=scores_GNE)
        used = routing
        if self.group == "image":  # a softmax over thousands would make the experts a no-op: the mean gate becomes 1
            used = replace(routing, gates=routing.gates * active)
        refined_GNV = self.experts.forward_chosen(items_GNV, used)
        if self.residual:
            refined_GNV = refined_GNV + items_GNV
        if self.group == "location":
            return refined_GNV.unflatten(0, (images, places)).transpose(1, 2), routing
        return refined_GNV.unflatten(1, (layers, places)), routing

    @torch.no_grad()
    def attention_picture(self, fused: Fused) -> Tensor:
        """(B, 1, h, w): how much each location is attended to; sums to one."""
        assert fused.attended is not None
        received_BT = self.attention.received(fused.attended)
        grid = fused.auxiliary.shape[-2:]
        return received_BT.unflatten(1, (-1, grid[0] * grid[1])).sum(dim=1).unflatten(1, grid)[:, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention over T tokens."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_BTV: Tensor) -> Tensor:
        """(B, T, V) to the same shape."""
        q, k, v = self._heads(tokens_BTV)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    @torch.no_grad()
    def received(self, tokens_BTV: Tensor) -> Tensor:
        """(B, T): mean over heads and queries of the attention each token receives; a block of queries at a time."""
        q, k, _ = self._heads(tokens_BTV)
        total_BT = tokens_BTV.new_zeros(tokens_BTV.shape[:2])
        for part in q.split(_QUERY_CHUNK, dim=2):
            weights = (part @ k.transpose(-1, -2) * k.shape[-1] ** -0.5).softmax(dim=-1)
            total_BT += weights.sum(dim=2).mean(dim=1)
        return total_BT / tokens_BTV.shape[1]

    def _heads(self, tokens_BTV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(tokens_BTV).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return q, k, v


def silent_neck(encoder_width: int, width: int) -> nn.Sequential:
    """SAM's neck whose answer is zero until its last norm's gain has learned otherwise."""
    neck = build_neck(encoder_width, width)
    last = neck[-1]
    assert isinstance(last, LayerNorm2d)
    nn.init.zeros_(last.weight)
    return neck
