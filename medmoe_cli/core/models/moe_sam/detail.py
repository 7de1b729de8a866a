"""The detail of a convolutional stem brought to the mask features, coarse to fine (in the spirit of HQ-SAM).

Shapes: B images, D decoder width, h w token grid, M mask channels; the stem's maps are finest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.sam2d import conv_unit


class DetailPath(nn.Module):
    """From the embedding up through the stem's maps: double the grid, add the map, convolve.

    Args:
        width: D.
        stem_channels: channels of the stem's maps, finest first.
        channels: M.
    """

    def __init__(self, *, width: int, stem_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        upwards = (width, *reversed(stem_channels))
        self.steps = nn.ModuleList(
            nn.Conv2d(below, here, 1) for below, here in zip(upwards, reversed(stem_channels), strict=False)
        )
        self.merges = nn.ModuleList(conv_unit(here, here) for here in reversed(stem_channels))
        self.out = nn.Conv2d(stem_channels[0], channels, 1)

    def forward(self, embedding_BDhw: Tensor, stem_maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, M, H, W) on the finest stem map's grid."""
        x = embedding_BDhw
        for step, merge, stem in zip(self.steps, self.merges, reversed(stem_maps), strict=True):
            x = merge(F.interpolate(step(x), size=stem.shape[-2:], mode="nearest") + stem)
        return self.out(x)
