"""The mask decoder with detail: SAM-Med3D's, whose masks a convolutional stem carries to the input's resolution.

Plain SAM-Med3D is `nn.sam3d.MaskDecoder3d` as it is. This one adds, under the same prefix, what a small model from
scratch needs: the stem's maps and the drawn prompts in its mask features, and a second, finer mask on top of the first.

Shapes: Q queries, C width, F = C / 8 mask features, h side of the mask grid (4 x embedding), S side of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn
from torch.nn import functional as F

from medmoe_cli.core.models.sam_med3d_moe.encoder import conv_unit
from medmoe_cli.core.models.sam_med3d_moe.guidance import NUM_MAPS
from medmoe_cli.core.nn.sam3d import MaskDecoder3d, PromptTokens, Sam3dSize
from medmoe_cli.core.nn.sam3d.two_way import two_way


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """The stem's maps of each query's image, (Q, c, S, S, S) and (Q, 2c, S/2, S/2, S/2), and its drawn prompts."""

    at1: Tensor
    at2: Tensor
    drawn: Tensor | None


class DetailDecoder(MaskDecoder3d):
    """A mask decoder that answers at the input's resolution.

    Args:
        size: see `Sam3dSize`.
        channels: of the stem's finest map.
        guided: take drawn prompts.
    """

    def __init__(self, size: Sam3dSize, *, channels: int, guided: bool) -> None:
        super().__init__(size)
        width = size.neck_width // 8
        self.detail_stem = nn.Conv3d(2 * channels, width, 1)
        self.detail_drawn = nn.Conv3d(NUM_MAPS, width, 3, padding=1) if guided else None
        self.detail_mix = conv_unit(width, width)
        step = size.patch // 4  # from the mask grid, four cells per embedding's, to the input
        self.detail_up = nn.ConvTranspose3d(width, channels, step, stride=step)
        self.detail_fine = nn.Conv3d(channels, channels, 3, padding=1)
        self.detail_head = MLP(size.neck_width, size.neck_width, channels, 3)

    def answer(
        self,
        embedding_QCsss: Tensor,
        positions_1Csss: Tensor,
        sparse: PromptTokens,
        dense_QCsss: Tensor,
        detail: Detail,
    ) -> Tensor:
        """Logits (Q, 1, S, S, S)."""
        own_KC = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        image_QCsss = embedding_QCsss + dense_QCsss
        tokens_QTC, image_QLC = two_way(
            self.transformer,
            image_QLC=image_QCsss.flatten(2).transpose(1, 2),
            positions_1LC=positions_1Csss.flatten(2).transpose(1, 2),
            tokens_QTC=torch.cat([own_KC.expand(len(sparse.values), -1, -1), sparse.values], 1),
            used_QT=torch.cat([sparse.used.new_ones(len(sparse.used), len(own_KC)), sparse.used], 1),
        )
        features_QFhhh = self.output_upscaling(image_QLC.transpose(1, 2).unflatten(2, image_QCsss.shape[2:]))
        features_QFhhh = features_QFhhh + _at(self.detail_stem(detail.at2), features_QFhhh)
        if self.detail_drawn is not None and detail.drawn is not None:
            features_QFhhh = features_QFhhh + self.detail_drawn(detail.drawn)
        features_QFhhh = features_QFhhh + self.detail_mix(features_QFhhh)
        token_QC = tokens_QTC[:, 1]
        coarse_Q1hhh = _dot(self.output_hypernetworks_mlps[0](token_QC), features_QFhhh)
        fine_QcSSS = (self.detail_up(features_QFhhh) + detail.at1).relu()
        fine_QcSSS = self.detail_fine(fine_QcSSS).relu()
        return enlarge(coarse_Q1hhh, detail.at1.shape[-1]) + _dot(self.detail_head(token_QC), fine_QcSSS)


def enlarge(maps_QNggg: Tensor, side: int) -> Tensor:
    """Trilinear, to a cube of that side."""
    if maps_QNggg.shape[-1] == side:
        return maps_QNggg
    return F.interpolate(maps_QNggg, size=(side,) * 3, mode="trilinear", align_corners=False)


def _at(maps: Tensor, like: Tensor) -> Tensor:
    """Averaged down to the mask grid (patch 16: the mask grid is a quarter of the input, not half)."""
    return maps if maps.shape[2:] == like.shape[2:] else F.adaptive_avg_pool3d(maps, like.shape[-1])


def _dot(head_QF: Tensor, features_QFggg: Tensor) -> Tensor:
    return torch.einsum("qf,qfdhw->qdhw", head_QF, features_QFggg)[:, None]
