"""Mask features of the expert tokens: SAM's upscaled embedding with early detail (as in HQ-SAM and the public code).

Shapes: B images or queries, D decoder width, V encoder width, C = D/8 mask channels; h w the embedding's grid, the mask
grid is 4h x 4w.
"""

from __future__ import annotations

from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn


class HighResolution(nn.Module):
    """Fuses SAM's upscaled features, the image embedding and the output of an early encoder block.

    Args:
        width: D.
        encoder_width: V.
    """

    def __init__(self, *, width: int, encoder_width: int) -> None:
        super().__init__()
        channels = width // 8
        self.embedding = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, channels, 2, 2),
        )
        self.early = nn.Sequential(
            nn.ConvTranspose2d(encoder_width, width, 2, 2),
            LayerNorm2d(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, channels, 2, 2),
        )
        self.upscaled = nn.Sequential(
            nn.Conv2d(channels, width // 4, 3, 1, 1),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.Conv2d(width // 4, channels, 3, 1, 1),
        )

    def image(self, embedding_BDhw: Tensor, early_BVhw: Tensor) -> Tensor:
        """The part that depends on the image alone, (B, C, 4h, 4w)."""
        return self.embedding(embedding_BDhw) + self.early(early_BVhw)

    def forward(self, upscaled_BChw: Tensor, image_BChw: Tensor) -> Tensor:
        """Mask features (B, C, 4h, 4w) of queries from SAM's upscaled features and `image`'s."""
        return upscaled_BChw + self.upscaled(upscaled_BChw) + image_BChw

    def start_at_zero(self) -> None:
        """Make `forward` return SAM's own upscaled features until trained."""
        for block in (self.embedding, self.early, self.upscaled):
            last = block[-1]
            assert isinstance(last, nn.Conv2d | nn.ConvTranspose2d)
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
