"""Adapters for a frozen SAM encoder: few parameters beside each block, none of SAM's own touched.

Every kind starts as plain SAM exactly, because its last layer starts at zero.
Sources:
    attention, attention+mlp: MoE-SAM eq. 1 (Medical SAM Adapter, arXiv:2304.12620; AdaptFormer for the scale).
    lora:      SAMed, arXiv:2304.13785: low-rank deltas of the query and value projections.
    sam-med2d: SAM-Med2D, arXiv:2308.16184: channel attention, then a strided convolution and its transpose.
Differs: the delta of both places is scaled (paper; public code: only the one beside the MLP); all act on the whole
grid after norm1 and never on the padding of windows; SAM-Med2D's has no ReLU after its last layer, which would never
leave zero (tests/unit/models/test_moe_sam_adapters.py).
Shapes: B images, H W token grid, D width, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AdapterKind = Literal["attention+mlp", "attention", "lora", "sam-med2d"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSpec:
    """Which adapter, and how large.

    Attributes:
        kind: see the module.
        ratio: inner width over the encoder's width (not LoRA).
        scale: factor of what is added.
        rank: LoRA's.
    """

    kind: AdapterKind
    ratio: float = 0.25
    scale: float = 0.5
    rank: int = 4


class BlockAdapter(nn.Module):
    """What a transformer block asks its adapter; by default nothing is changed."""

    def qkv(self, tokens_BHWD: Tensor) -> Tensor | None:
        """What to add to queries, keys and values (B, H, W, 3D) of normalised tokens."""
        return None

    def attended(self, tokens_BHWD: Tensor) -> Tensor:
        """The attention's output on its way to the residual sum."""
        return tokens_BHWD

    def beside_mlp(self, tokens_BHWD: Tensor) -> Tensor | None:
        """What to add beside the MLP's output; takes the MLP's input."""
        return None


class Bottleneck(nn.Module):
    """Down, GELU, up; the way up starts at zero."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.up(F.gelu(self.down(tokens)))


class BottleneckAdapter(BlockAdapter):
    """A bottleneck with a skip after attention and, with `beside`, one without a skip beside the MLP."""

    def __init__(self, width: int, *, inner: int, scale: float, beside: bool) -> None:
        super().__init__()
        self.scale = scale
        self.attention = Bottleneck(width, inner)
        self.mlp = Bottleneck(width, inner) if beside else None

    def attended(self, tokens_BHWD: Tensor) -> Tensor:
        """Eq. 1, scaled."""
        return tokens_BHWD + self.scale * self.attention(tokens_BHWD)

    def beside_mlp(self, tokens_BHWD: Tensor) -> Tensor | None:
        """The second bottleneck, scaled; None without one."""
        return None if self.mlp is None else self.scale * self.mlp(tokens_BHWD)


class LoraAdapter(BlockAdapter):
    """Low-rank deltas of queries and values; keys stay."""

    def __init__(self, width: int, *, rank: int) -> None:
        super().__init__()
        self.down_q, self.up_q = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        self.down_v, self.up_v = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up_q.weight)
        nn.init.zeros_(self.up_v.weight)

    def qkv(self, tokens_BHWD: Tensor) -> Tensor:
        """Deltas, zero for the keys."""
        queries = self.up_q(self.down_q(tokens_BHWD))
        values = self.up_v(self.down_v(tokens_BHWD))
        return torch.cat([queries, torch.zeros_like(queries), values], dim=-1)


class SamMed2dAdapter(BlockAdapter):
    """Channels weighed by a pooled squeeze, then the grid halved by a convolution and doubled by its transpose."""

    def __init__(self, width: int, *, inner: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.squeeze = nn.Linear(width, inner, bias=False)
        self.excite = nn.Linear(inner, width, bias=False)
        self.shrink = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.widen = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False)
        nn.init.zeros_(self.widen.weight)

    def beside_mlp(self, tokens_BHWD: Tensor) -> Tensor:
        """The adapter's answer on the grid's own size, odd sides included."""
        _, height, width, _ = tokens_BHWD.shape
        weights_BD = self.excite(F.relu(self.squeeze(tokens_BHWD.mean(dim=(1, 2))))).sigmoid()
        weighed_BDHW = (tokens_BHWD * weights_BD[:, None, None]).permute(0, 3, 1, 2)
        back_BDHW = self.widen(F.relu(self.shrink(weighed_BDHW)))[..., :height, :width]
        return self.scale * back_BDHW.permute(0, 2, 3, 1)


def build_adapter(spec: AdapterSpec, width: int) -> BlockAdapter:
    """The adapter of one block of that width."""
    inner = max(1, int(width * spec.ratio))
    if spec.kind == "lora":
        return LoraAdapter(width, rank=spec.rank)
    if spec.kind == "sam-med2d":
        return SamMed2dAdapter(width, inner=inner, scale=spec.scale)
    return BottleneckAdapter(width, inner=inner, scale=spec.scale, beside=spec.kind == "attention+mlp")
