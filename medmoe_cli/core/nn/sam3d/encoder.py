"""The SAM-Med3D image encoder: the public parameters and names, computed faster.

Paper:   SAM-Med3D, arXiv:2310.15161
Code:    uni-medical/SAM-Med3D, Apache-2.0 (state dicts are interchangeable)
Differs: 1. attention is fused and windows are not padded (attention.py); outputs agree to 1e-4 relative with recorded
            ones of the public code (tests/parity/test_sam3d_golden.py) and with padded windows
            (tests/parity/test_sam3d_windows.py).
         2. a fresh model starts from normal weights and position tables (0.02) instead of zero tables
            (tests/unit/nn/test_sam3d_encoder.py).
         3. `published_positions` off computes the relative positions rightly, for models trained from scratch.
Shapes:  B volumes, D H W along the input's three axes (tensors are (B, 1, D, H, W), cubes), C width, E neck width.
         Prompts name the axes x, y, z = W, H, D.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import MLPBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medmoe_cli.core.nn.sam3d.attention import Attention3d
from medmoe_cli.core.nn.sam3d.layers import LayerNorm3d
from medmoe_cli.core.nn.sam3d.sizes import Sam3dSize


class Sam3dEncoder(nn.Module):
    """Image encoder for cubes of one size, one channel.

    Args:
        size: see `SAM3D_SIZES`.
        image_size: side of the input in voxels, a multiple of the patch; None for the size's own. Weights made for
            another side are resized when they are loaded (`resize.resize_table_3d`).
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(self, size: Sam3dSize, *, image_size: int | None = None, checkpointing: bool = False) -> None:
        super().__init__()
        self.size = size
        self.image_size = image_size or size.image_size
        if self.image_size % size.patch:
            raise ValueError(f"image size {self.image_size} is not a multiple of the patch {size.patch}")
        self.grid = self.image_size // size.patch
        self.checkpointing = checkpointing

        self.patch_embed = PatchEmbed3d(size.width, patch=size.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid, self.grid, self.grid, size.width))
        self.blocks = nn.ModuleList(
            Block3d(size, window=0 if index in size.global_blocks else size.window, grid=self.grid)
            for index in range(size.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(size.width, size.neck_width, kernel_size=1, bias=False),
            LayerNorm3d(size.neck_width),
            nn.Conv3d(size.neck_width, size.neck_width, kernel_size=3, padding=1, bias=False),
            LayerNorm3d(size.neck_width),
        )
        self._initialise()

    def forward(self, volume_B1DHW: Tensor) -> Tensor:
        """Encode normalised volumes: (B, E, d, h, w) with d = D / patch."""
        expected = (1, *(self.image_size,) * 3)
        if tuple(volume_B1DHW.shape[1:]) != expected:
            raise ValueError(f"volumes of {tuple(volume_B1DHW.shape[1:])} for an encoder of {expected}")
        tokens_BDHWC = self.patch_embed(volume_B1DHW) + self.pos_embed
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens_BDHWC = checkpoint(block, tokens_BDHWC, use_reentrant=False)
            else:
                tokens_BDHWC = block(tokens_BDHWC)
        return self.neck(tokens_BDHWC.permute(0, 4, 1, 2, 3))

    def _initialise(self) -> None:
        nn.init.normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Attention3d):
                for table in (module.rel_pos_d, module.rel_pos_h, module.rel_pos_w):
                    nn.init.normal_(table, std=0.02)


class Block3d(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, size: Sam3dSize, *, window: int, grid: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = Attention3d(
            size.width,
            num_heads=size.num_heads,
            window=window,
            grid=grid,
            published_positions=size.published_positions,
        )
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = MLPBlock(embedding_dim=size.width, mlp_dim=4 * size.width)

    def forward(self, tokens_BDHWC: Tensor) -> Tensor:
        """(B, D, H, W, C) to the same shape."""
        tokens_BDHWC = tokens_BDHWC + self.attn(self.norm1(tokens_BDHWC))
        return tokens_BDHWC + self.mlp(self.norm2(tokens_BDHWC))


class PatchEmbed3d(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, width: int, *, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, width, kernel_size=patch, stride=patch)

    def forward(self, volume_B1DHW: Tensor) -> Tensor:
        """(B, 1, D, H, W) to (B, D / patch, H / patch, W / patch, C)."""
        return self.proj(volume_B1DHW).permute(0, 2, 3, 4, 1)
