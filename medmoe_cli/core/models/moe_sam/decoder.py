"""SAM's mask decoder with one mask token per class, background first, for a batch of images without user prompts.

Shapes: B images, C classes with background, P prompt tokens, D width, h w the embedding's grid, M = D/8 mask channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder
from torch import Tensor

from medmoe_cli.core.models.moe_sam.detail import DetailPath


def decode_classes(
    decoder: MaskDecoder,
    *,
    embedding_BDhw: Tensor,
    position_1Dhw: Tensor,
    sparse_BPD: Tensor,
    dense_1D11: Tensor,
    detail: DetailPath | None = None,
    stem_maps: tuple[Tensor, ...] = (),
) -> Tensor:
    """Class logits (B, C, 4h, 4w); with a detail path on the finer of that grid and the stem's finest.

    Args:
        decoder: with C mask tokens and no IoU head.
        embedding_BDhw: the enhanced image embedding.
        position_1Dhw: SAM's position code of the grid.
        sparse_BPD: prompt tokens, P may be 0.
        dense_1D11: SAM's dense prompt.
        detail: joins finer maps to the mask features.
        stem_maps: these maps, finest first.
    """
    images, grid = embedding_BDhw.shape[0], embedding_BDhw.shape[-2:]
    output_ND = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens_BTD = torch.cat([output_ND.expand(images, -1, -1), sparse_BPD], dim=1)
    tokens_BTD, image_BLD = decoder.transformer(embedding_BDhw + dense_1D11, position_1Dhw, tokens_BTD)
    features_BMhw = decoder.output_upscaling(image_BLD.transpose(1, 2).unflatten(2, grid))
    if detail is not None:
        detail_BMhw = detail(embedding_BDhw, stem_maps)
        size = max(features_BMhw.shape[-1], detail_BMhw.shape[-1])
        features_BMhw = enlarged(features_BMhw, size) + enlarged(detail_BMhw, size)
    heads_BCM = torch.stack(
        [head(tokens_BTD[:, 1 + index]) for index, head in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    return (heads_BCM @ features_BMhw.flatten(2)).unflatten(2, features_BMhw.shape[-2:])


def enlarged(maps_BChw: Tensor, side: int) -> Tensor:
    """Bilinear to that side; the same tensor where it has it."""
    if maps_BChw.shape[-1] == side:
        return maps_BChw
    return F.interpolate(maps_BChw, size=(side, side), mode="bilinear", align_corners=False)
