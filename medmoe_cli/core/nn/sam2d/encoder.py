"""The SAM image encoder: segment_anything's parameters and names, computed faster.

Paper:   Segment Anything, ICCV 2023, arXiv:2304.02643
Code:    facebookresearch/segment-anything, Apache-2.0 (state dicts are interchangeable)
Differs: 1. attention is fused and windows are not padded (see attention.py); the results agree to 1e-4
            (tests/parity/test_sam_encoder.py).
         2. a fresh model starts from normal weights and position tables (0.02) instead of zero tables, because
            it may be trained from scratch (tests/unit/nn/test_sam_encoder_options.py).
Shapes:  B images, H W token grid, D width, C neck width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medmoe_cli.core.nn.sam2d.adapters import AdapterSpec, BlockAdapter, build_adapter
from medmoe_cli.core.nn.sam2d.attention import Attention
from medmoe_cli.core.nn.sam2d.sizes import WINDOW, SamSize
from medmoe_cli.core.nn.sam2d.stem import ConvStem

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """What the encoder makes of images.

    Attributes:
        embedding: (B, C, H, W) image embedding after the neck.
        early: (B, D, H, W) output of the early block (`SamSize.early_block`).
        blocks: (B, H, W, D) outputs of all blocks in order; empty unless asked for.
        stem: maps of a convolutional stem, finest first; empty without one.
    """

    embedding: Tensor
    early: Tensor
    blocks: tuple[Tensor, ...] = ()
    stem: tuple[Tensor, ...] = ()


class SamEncoder(nn.Module):
    """Image encoder for square images of one size.

    Args:
        size: see `SAM_SIZES`.
        image_size: side of the input in pixels, a multiple of the patch. Weights made for another size are
            resized when they are loaded (`resize.resize_table`).
        neck_width: channels of the embedding; None for the size's own.
        early_block: block whose output is exposed; None for the size's own.
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        adapter: a small trainable adapter in every block, as `blocks.N.adapter`; None for plain SAM.
        stem: convolutions that make the tokens in place of the patch embedding; None for plain SAM.
    """

    def __init__(
        self,
        size: SamSize,
        *,
        image_size: int,
        neck_width: int | None = None,
        early_block: int | None = None,
        checkpointing: bool = False,
        adapter: AdapterSpec | None = None,
        stem: ConvStem | None = None,
    ) -> None:
        super().__init__()
        if image_size % size.patch:
            raise ValueError(f"image size {image_size} is not a multiple of the patch {size.patch}")
        self.size = size
        self.image_size = image_size
        self.grid = image_size // size.patch
        self.neck_width = neck_width or size.neck_width
        self.early_block = size.early_block if early_block is None else early_block
        self.checkpointing = checkpointing
        if not 0 <= self.early_block < size.depth:
            raise ValueError(f"early_block {self.early_block} of an encoder with {size.depth} blocks")

        self.stem = stem
        self.patch_embed = PatchEmbed(size.width, patch=size.patch) if stem is None else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid, self.grid, size.width))
        self.blocks = nn.ModuleList(
            Block(
                size.width,
                num_heads=size.num_heads,
                window=0 if index in size.global_blocks else WINDOW,
                grid=self.grid,
            )
            for index in range(size.depth)
        )
        self.neck = build_neck(size.width, self.neck_width)
        self._initialise()
        if adapter is not None:  # afterwards: adapters begin as they say, and SAM's own draws stay the same
            for block in self.blocks:
                block.adapter = build_adapter(adapter, size.width)

    def forward(self, pixels_B3HW: Tensor, *, all_blocks: bool = False) -> Encoding:
        """Encode normalised pixels (see `normalise_pixels`) of the encoder's image size."""
        if pixels_B3HW.shape[-2:] != (self.image_size, self.image_size):
            shape = "x".join(str(side) for side in pixels_B3HW.shape[-2:])
            raise ValueError(f"images of {shape} for an encoder of {self.image_size}x{self.image_size}")
        maps: tuple[Tensor, ...] = ()
        if self.stem is not None:
            stemmed = self.stem(pixels_B3HW)
            patches_BHWD, maps = stemmed.tokens, stemmed.maps
        else:
            assert self.patch_embed is not None
            patches_BHWD = self.patch_embed(pixels_B3HW)
        tokens_BHWD = patches_BHWD + self.pos_embed
        early, outputs = tokens_BHWD, []
        for index, block in enumerate(self.blocks):
            if self.checkpointing and torch.is_grad_enabled():
                tokens_BHWD = checkpoint(block, tokens_BHWD, use_reentrant=False)
            else:
                tokens_BHWD = block(tokens_BHWD)
            if index == self.early_block:
                early = tokens_BHWD
            if all_blocks:
                outputs.append(tokens_BHWD)
        return Encoding(
            embedding=self.neck(tokens_BHWD.permute(0, 3, 1, 2)),
            early=early.permute(0, 3, 1, 2),
            blocks=tuple(outputs),
            stem=maps,
        )

    def _initialise(self) -> None:
        nn.init.normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Attention):
                nn.init.normal_(module.rel_pos_h, std=0.02)
                nn.init.normal_(module.rel_pos_w, std=0.02)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, *, num_heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads=num_heads, window=window, grid=grid)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLPBlock(embedding_dim=width, mlp_dim=4 * width)
        self.adapter: BlockAdapter | None = None

    def forward(self, tokens_BHWD: Tensor) -> Tensor:
        """(B, H, W, D) to the same shape."""
        if self.adapter is not None:
            return self._adapted(tokens_BHWD, self.adapter)
        tokens_BHWD = tokens_BHWD + self.attn(self.norm1(tokens_BHWD))
        return tokens_BHWD + self.mlp(self.norm2(tokens_BHWD))

    def _adapted(self, tokens_BHWD: Tensor, adapter: BlockAdapter) -> Tensor:
        normed_BHWD = self.norm1(tokens_BHWD)
        tokens_BHWD = tokens_BHWD + adapter.attended(self.attn(normed_BHWD, adapter.qkv(normed_BHWD)))
        normed_BHWD = self.norm2(tokens_BHWD)
        tokens_BHWD = tokens_BHWD + self.mlp(normed_BHWD)
        beside_BHWD = adapter.beside_mlp(normed_BHWD)
        return tokens_BHWD if beside_BHWD is None else tokens_BHWD + beside_BHWD


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, width: int, *, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H / patch, W / patch, D)."""
        return self.proj(pixels_B3HW).permute(0, 2, 3, 1)


def build_neck(width: int, channels: int) -> nn.Sequential:
    """SAM's neck: 1x1 convolution, norm, 3x3 convolution, norm; (B, D, H, W) to (B, C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(width, channels, kernel_size=1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(channels),
    )


def normalise_pixels(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1] with 1 or 3 channels to SAM's input: (255 x - mean) / std per RGB channel, (B, 3, H, W)."""
    if images_BCHW.shape[1] not in (1, 3):
        raise ValueError(f"SAM takes 1 or 3 channels, not {images_BCHW.shape[1]}")
    mean = images_BCHW.new_tensor(PIXEL_MEAN).reshape(3, 1, 1)
    std = images_BCHW.new_tensor(PIXEL_STD).reshape(3, 1, 1)
    return (images_BCHW * 255.0 - mean) / std
