"""Mask features of the expert tokens: SAM's upscaled embedding with early detail (as in HQ-SAM and the public code).

Shapes: B images or queries, D decoder width, V encoder width, C = D/8 mask channels; h w the embedding's grid, the mask
grid is 4h x 4w.
"""

from __future__ import annotations

from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from medmoe_cli.core.models.segmote.guidance import NUM_MAPS


class HighResolution(nn.Module):
    """Fuses SAM's upscaled features, the image embedding and the output of an early encoder block.

    Args:
        width: D.
        encoder_width: V.
        stem_width: channels of a convolutional stem's output at the mask grid, None without one.
    """

    def __init__(self, *, width: int, encoder_width: int, stem_width: int | None = None) -> None:
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

        self.stem = None if stem_width is None else nn.Conv2d(stem_width, channels, 1)

    def image(self, embedding_BDhw: Tensor, early_BVhw: Tensor, stem_BWhw: Tensor | None = None) -> Tensor:
        """The part that depends on the image alone, (B, C, 4h, 4w)."""
        detail_BChw = self.embedding(embedding_BDhw) + self.early(early_BVhw)
        if self.stem is not None and stem_BWhw is not None:
            detail_BChw = detail_BChw + self.stem(stem_BWhw)
        return detail_BChw

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


class Guidance(nn.Module):
    """Joins drawn prompts to the mask features and mixes the two.

    Args:
        width: D.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        channels = width // 8
        self.drawn = nn.Conv2d(NUM_MAPS + 1, channels, 1)
        self.mix = nn.Sequential(
            LayerNorm2d(channels), nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, features_QChw: Tensor, drawn_QMhw: Tensor) -> Tensor:
        """Mask features (Q, C, 4h, 4w); the maps are those of `guidance.draw` and the previous mask."""
        joined_QChw = features_QChw + self.drawn(drawn_QMhw)
        return joined_QChw + self.mix(joined_QChw)
