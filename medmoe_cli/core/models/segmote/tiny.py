"""The image encoder of the small model that trains from scratch: a convolutional stem before SAM's transformer blocks.

A patch embedding learns slowly from few images; convolutions at strides 2, 4 and 8 learn edges in the first hundred
steps, and their outputs are the detail that a small mask needs. They are joined with the transformer's answer into a
fine map at stride 2, made once per image.

Shapes: B images, S side of the input, V encoder width, D neck width, F fine channels, h w the token grid (S / 16).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medmoe_cli.core.nn.sam2d import SamEncoder, SamSize

STEM_WIDTHS = (24, 48, 96)  # channels at strides 2, 4, 8
FINE_WIDTH = 32
STEM_PATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyEncoding:
    """Embedding (B, D, h, w), early block (B, V, h, w), stem at stride 4 (B, 48, 4h, 4w), fine (B, F, 8h, 8w)."""

    embedding: Tensor
    early: Tensor
    stem: Tensor
    fine: Tensor


class TinyEncoder(nn.Module):
    """A SAM encoder whose patches come from a convolutional stem.

    Args:
        size: of the transformer; its patch is 16.
        image_size: side of the images as they come.
        encoder_size: side at which they are encoded; larger images are averaged down to it.
        early_block: block whose output is exposed; None for the first.
        checkpointing: recompute blocks in the backward pass.
    """

    def __init__(
        self, size: SamSize, *, image_size: int, encoder_size: int, early_block: int | None, checkpointing: bool
    ) -> None:
        super().__init__()
        self.reduction = image_size // encoder_size
        self.trunk = SamEncoder(size, image_size=encoder_size, early_block=early_block, checkpointing=checkpointing)
        self.trunk.add_module("patch_embed", nn.Identity())  # the stem makes the tokens
        first, second, third = STEM_WIDTHS
        self.stem2 = nn.Sequential(_conv(3, first, stride=2), _conv(first, first))
        self.stem4 = nn.Sequential(_conv(first, second, stride=2), _conv(second, second))
        self.stem8 = nn.Sequential(_conv(second, third, stride=2), _conv(third, third))
        self.tokens = nn.Conv2d(third, size.width, 3, stride=2, padding=1)
        self.top = nn.Conv2d(size.neck_width, 64, 1)
        self.skip8, self.merge8 = nn.Conv2d(third, 64, 1), _conv(64, 48)
        self.skip4, self.merge4 = nn.Conv2d(second, 48, 1), _conv(48, FINE_WIDTH)
        self.skip2, self.merge2 = nn.Conv2d(first, FINE_WIDTH, 1), _conv(FINE_WIDTH, FINE_WIDTH)

    @property
    def size(self) -> SamSize:
        """Of the transformer."""
        return self.trunk.size

    @property
    def neck_width(self) -> int:
        """Channels of the embedding."""
        return self.trunk.neck_width

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return self.trunk.grid

    def forward(self, pixels_B3SS: Tensor) -> TinyEncoding:
        """Encode normalised pixels."""
        if self.reduction > 1:
            pixels_B3SS = F.avg_pool2d(pixels_B3SS, self.reduction)
        at2 = self.stem2(pixels_B3SS)
        at4 = self.stem4(at2)
        at8 = self.stem8(at4)
        tokens_BhwV = self.tokens(at8).permute(0, 2, 3, 1) + self.trunk.pos_embed
        early_BhwV = tokens_BhwV
        for index, block in enumerate(self.trunk.blocks):
            if self.trunk.checkpointing and torch.is_grad_enabled():
                tokens_BhwV = checkpoint(block, tokens_BhwV, use_reentrant=False)
            else:
                tokens_BhwV = block(tokens_BhwV)
            if index == self.trunk.early_block:
                early_BhwV = tokens_BhwV
        embedding_BDhw = self.trunk.neck(tokens_BhwV.permute(0, 3, 1, 2))
        fine = self.merge8((_double(self.top(embedding_BDhw)) + self.skip8(at8)).relu())
        fine = self.merge4((_double(fine) + self.skip4(at4)).relu())
        fine = self.merge2((_double(fine) + self.skip2(at2)).relu())
        return TinyEncoding(embedding=embedding_BDhw, early=early_BhwV.permute(0, 3, 1, 2), stem=at4, fine=fine)


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()
    )


def _double(x_BChw: Tensor) -> Tensor:
    return F.interpolate(x_BChw, scale_factor=2, mode="nearest")
