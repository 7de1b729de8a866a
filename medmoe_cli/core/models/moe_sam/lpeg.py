"""Lightweight prompt embedding generator: the image's own prompt (paper section 2)."""

from __future__ import annotations

from torch import Tensor, nn


class PromptGenerator(nn.Module):
    """Pooled embedding through a bottleneck, Linear-GELU-Linear, to p * p prompt tokens.

    Args:
        width: D of embedding and tokens.
        inner: of the bottleneck.
        pool: p.
    """

    def __init__(self, *, width: int, inner: int, pool: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.bottleneck = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, embedding_BDhw: Tensor) -> Tensor:
        """(B, D, h, w), the enhanced embedding, to (B, p * p, D)."""
        return self.bottleneck(self.pool(embedding_BDhw).flatten(2).transpose(1, 2))
