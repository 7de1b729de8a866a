"""The SAM-Med3D mask decoder.

Paper:   SAM-Med3D, arXiv:2310.15161
Code:    uni-medical/SAM-Med3D (state dicts are interchangeable)
Differs: unused prompt tokens are hidden from attention (prompts.py, two_way.py).
Shapes:  Q queries, S prompt tokens, C width, d h w embedding grid; masks are (4d, 4h, 4w), axes D, H, W.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from segment_anything.modeling.mask_decoder import MLP
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

from medmoe_cli.core.nn.sam3d.layers import LayerNorm3d
from medmoe_cli.core.nn.sam3d.prompts import PromptTokens
from medmoe_cli.core.nn.sam3d.sizes import Sam3dSize
from medmoe_cli.core.nn.sam3d.two_way import two_way

MASK_TOKENS = 4  # one for the single mask, three for the multi-mask answer


class MaskDecoder3d(nn.Module):
    """Two two-way layers, transposed convolutions, a hypernetwork per mask token, and a head that predicts IoU."""

    def __init__(self, size: Sam3dSize) -> None:
        super().__init__()
        width = size.neck_width
        self.transformer = TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=size.decoder_mlp, num_heads=8)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm3d(width // 4),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = MLP(width, 256, MASK_TOKENS, 3)

    def forward(
        self,
        embedding_QCdhw: Tensor,
        positions_1Cdhw: Tensor,
        sparse: PromptTokens,
        dense_QCdhw: Tensor,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Answer Q queries.

        Args:
            embedding_QCdhw: image embedding of each query; one row serves all queries of one image.
            positions_1Cdhw: `PromptEncoder3d.dense_positions()`.
            sparse: prompt tokens.
            dense_QCdhw: dense prompt map.
            multimask: give the three alternatives instead of the single mask.

        Returns:
            Low-resolution logits (Q, 3 or 1, 4d, 4h, 4w) and predicted IoU (Q, 3 or 1).
        """
        queries = len(sparse.values)
        own_KC = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens_QTC = torch.cat([own_KC.expand(queries, -1, -1), sparse.values], 1)
        used_QT = torch.cat([sparse.used.new_ones(queries, len(own_KC)), sparse.used], 1)
        image_QCdhw = embedding_QCdhw + dense_QCdhw
        tokens_QTC, image_QLC = two_way(
            self.transformer,
            image_QLC=image_QCdhw.flatten(2).transpose(1, 2),
            positions_1LC=positions_1Cdhw.flatten(2).transpose(1, 2),
            tokens_QTC=tokens_QTC,
            used_QT=used_QT,
        )
        features_QFDHW = self.output_upscaling(image_QLC.transpose(1, 2).unflatten(2, image_QCdhw.shape[2:]))
        chosen = slice(1, MASK_TOKENS) if multimask else slice(0, 1)
        heads_QKF = torch.stack(
            [
                head(tokens_QTC[:, 1 + index])
                for index, head in enumerate(self.output_hypernetworks_mlps)
                if chosen.start <= index < chosen.stop
            ],
            1,
        )
        logits_QKDHW = torch.einsum("qkf,qfdhw->qkdhw", heads_QKF, features_QFDHW)
        return logits_QKDHW, self.iou_prediction_head(tokens_QTC[:, 0])[:, chosen]

    def copy(self) -> MaskDecoder3d:
        """A second decoder with the same weights and no memory in common, all of it trainable."""
        return deepcopy(self).requires_grad_(True)
