"""The SAM-Med3D prompt encoder: clicks, boxes and mask prompts of any mix, without a loop over queries.

Paper:   SAM-Med3D, arXiv:2310.15161
Code:    uni-medical/SAM-Med3D (state dicts are interchangeable but for the two box corners)
Differs: 1. boxes work: `point_embeddings` has four entries, the last two for a box's corners, which the public code
            indexes and does not have. New weights, reported as such when a checkpoint is added.
         2. every query owns the same token slots `[points | padding point | two box corners]` and a mask says which it
            uses, so that a query's answer does not depend on its neighbours' number of clicks
            (tests/unit/nn/test_sam3d_decoder.py). As in the public code a query with clicks and no box uses the
            padding point.
         3. coordinates are continuous with a voxel's centre at + 0.5 already, so nothing is added to them.
Axes:    prompts are (x, y, z) of the network's input (B, 1, D, H, W): x is along W, y along H, z along D.
Shapes:  Q queries, N points, S token slots, C width, d h w embedding grid, 4d mask grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medmoe_cli.core.nn.sam3d.layers import LayerNorm3d
from medmoe_cli.core.nn.sam3d.position_code import PositionCode3d
from medmoe_cli.core.nn.sam3d.sizes import Sam3dSize

BACKGROUND, FOREGROUND, CORNER_FIRST, CORNER_LAST = range(4)  # order of the point embeddings
MASK_CELLS = 4  # mask prompts and low-resolution masks have this many cells per side of an embedding's cell


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTokens:
    """Prompt tokens of Q queries.

    Attributes:
        values: (Q, S, C); zero where unused.
        used: (Q, S) bool; unused slots take part in no attention.
    """

    values: Tensor
    used: Tensor

    def append(self, extra_QTC: Tensor, used_QT: Tensor) -> PromptTokens:
        """The same with more tokens behind, for instance a learned query token for queries without prompts."""
        extra_QTC = torch.where(used_QT[..., None], extra_QTC, torch.zeros_like(extra_QTC))
        return PromptTokens(values=torch.cat([self.values, extra_QTC], 1), used=torch.cat([self.used, used_QT], 1))


class PromptEncoder3d(nn.Module):
    """Prompts to sparse tokens and a dense map.

    Args:
        size: gives width and the form of the positions.
        image_size: side of the input in voxels; None for the size's own.
    """

    def __init__(self, size: Sam3dSize, *, image_size: int | None = None) -> None:
        super().__init__()
        if size.neck_width % 48:
            raise ValueError(f"neck width {size.neck_width} is not a multiple of 48")
        self.image_size = image_size or size.image_size
        self.grid = self.image_size // size.patch
        width = size.neck_width
        self.pe_layer = PositionCode3d(width // 3, published=size.published_positions)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, kernel_size=2, stride=2),
            LayerNorm3d(4),
            nn.GELU(),
            nn.Conv3d(4, 16, kernel_size=2, stride=2),
            LayerNorm3d(16),
            nn.GELU(),
            nn.Conv3d(16, width, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    @property
    def mask_size(self) -> tuple[int, int, int]:
        """(D, H, W) of mask prompts."""
        side = self.grid * MASK_CELLS
        return side, side, side

    def dense_positions(self) -> Tensor:
        """(1, C, d, h, w): the position code of the image embedding's cells, for the decoder."""
        return self.pe_layer.grid(self.grid)

    def forward(
        self,
        points_QN3: Tensor,
        labels_QN: Tensor,
        boxes_Q6: Tensor,
        masks_Q1DHW: Tensor | None,
        *,
        has_mask_Q: Tensor | None = None,
    ) -> tuple[PromptTokens, Tensor]:
        """Encode the prompts of Q queries, as `Prompts` holds them.

        Args:
            points_QN3: clicks (x, y, z) in input voxels.
            labels_QN: 1 inside, 0 outside, -1 padding (ignored).
            boxes_Q6: x0, y0, z0, x1, y1, z1, voxel edges; NaN rows where there is none.
            masks_Q1DHW: logits on `mask_size`; None for zeros, which is what the public model is given at the first
                click: it always gets a mask.
            has_mask_Q: bool; where False the query gets the embedding of 'no mask' instead. The public weights never
                trained that embedding, so leave it None with them.

        Returns:
            The tokens, and the dense map (Q, C, d, h, w).
        """
        return self._sparse(points_QN3, labels_QN, boxes_Q6), self._dense(len(labels_QN), masks_Q1DHW, has_mask_Q)

    def _sparse(self, points_QN3: Tensor, labels_QN: Tensor, boxes_Q6: Tensor) -> PromptTokens:
        kinds_4C = torch.cat([table for embedding in self.point_embeddings for table in embedding.parameters()])
        used_QN = labels_QN != -1
        has_box_Q1 = ~boxes_Q6.isnan().any(dim=1, keepdim=True)
        points_QNC = self._code(points_QN3) + kinds_4C[torch.where(labels_QN == 1, FOREGROUND, BACKGROUND)]
        padding_Q1C = self.not_a_point_embed.weight.expand(len(labels_QN), 1, -1)
        # The edges of a box are moved inwards by half a voxel, onto the centres of the outermost voxels.
        corners_Q23 = boxes_Q6.nan_to_num().unflatten(1, (2, 3))
        corners_Q23 = corners_Q23 + corners_Q23.new_tensor([[0.5], [-0.5]])
        corners_Q2C = self._code(corners_Q23) + kinds_4C[[CORNER_FIRST, CORNER_LAST]]
        needs_padding_Q1 = used_QN.any(dim=1, keepdim=True) & ~has_box_Q1
        used = torch.cat([used_QN, needs_padding_Q1, has_box_Q1.expand(-1, 2)], 1)
        values = torch.cat([points_QNC, padding_Q1C, corners_Q2C], 1)
        return PromptTokens(values=torch.where(used[..., None], values, torch.zeros_like(values)), used=used)

    def _code(self, xyz: Tensor) -> Tensor:
        return self.pe_layer.at(xyz.flip(-1) / self.image_size)

    def _dense(self, queries: int, masks_Q1DHW: Tensor | None, has_mask_Q: Tensor | None) -> Tensor:
        weight = self.no_mask_embed.weight
        if masks_Q1DHW is None:
            masks_Q1DHW = weight.new_zeros(1, 1, *self.mask_size)  # alike for all queries: embedded once
        if tuple(masks_Q1DHW.shape[2:]) != self.mask_size:
            raise ValueError(f"mask prompts of {tuple(masks_Q1DHW.shape[2:])} for a mask grid of {self.mask_size}")
        dense_QCdhw = self.mask_downscaling(masks_Q1DHW).expand(queries, -1, -1, -1, -1)
        if has_mask_Q is None:
            return dense_QCdhw
        none_C111 = weight[0, :, None, None, None].to(dense_QCdhw.dtype)
        return torch.where(has_mask_Q[:, None, None, None, None], dense_QCdhw, none_C111)
