"""From fused tokens to a concept's mask and presence, with SAM3's own decoder and mask head.

Shapes: Q queries, N tokens of an image (h w of the coarsest level), D width, I object queries, T tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Sam3Model

from medmoe_cli.core.models.da_sam3.concepts import Asked

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Mask logits (Q, 1, h, w) at the finest level, and logits of presence (Q,)."""

    masks: Tensor
    presence: Tensor


def answer(
    sam3: Sam3Model,
    tokens_QND: Tensor,
    levels: Sequence[Tensor],
    asked: Asked,
    *,
    position_QND: Tensor,
    instances: bool,
) -> Answered:
    """Decode fused tokens.

    Args:
        sam3: whose decoder and mask head are used.
        tokens_QND: of the fusion encoder.
        levels: maps (Q, D, h, w), finest first; the coarsest one's grid is the tokens'.
        asked: the queries' texts.
        position_QND: position code of the tokens.
        instances: the union of the instances' masks, weighted by score and presence, in place of the semantic map.
    """
    height, width = levels[-1].shape[-2:]
    decoded = sam3.detr_decoder(
        vision_features=tokens_QND,
        text_features=asked.features,
        vision_pos_encoding=position_QND,
        text_mask=asked.mask,
        spatial_shapes=torch.tensor([[height, width]], device=tokens_QND.device),
    )
    presence_Q = decoded.presence_logits[-1][:, 0].float()
    if not instances:
        return Answered(masks=_semantic(sam3, tokens_QND, levels, asked), presence=presence_Q)
    scores_QI = sam3.dot_product_scoring(decoded.intermediate_hidden_states, asked.features, asked.mask)[-1, ..., 0]
    masks_QIhw = sam3.mask_decoder(
        decoder_queries=decoded.intermediate_hidden_states[-1],
        backbone_features=list(levels),
        encoder_hidden_states=tokens_QND,
        prompt_features=asked.features,
        prompt_mask=asked.mask,
    ).pred_masks
    return Answered(masks=union(masks_QIhw, scores_QI, presence_Q), presence=presence_Q)


def union(masks_QIhw: Tensor, scores_QI: Tensor, presence_Q: Tensor) -> Tensor:
    """Logits (Q, 1, h, w) that at least one instance covers a pixel: 1 - prod(1 - presence score_i mask_i)."""
    weight_QI11 = (scores_QI.float().sigmoid() * presence_Q[:, None].sigmoid())[..., None, None]
    missed_Qhw = torch.log1p(-(weight_QI11 * masks_QIhw.float().sigmoid()).clamp(max=1 - _EPSILON)).sum(1)
    covered_Qhw = -torch.expm1(missed_Qhw)
    return (covered_Qhw.clamp(min=_EPSILON).log() - missed_Qhw)[:, None]


def _semantic(sam3: Sam3Model, tokens_QND: Tensor, levels: Sequence[Tensor], asked: Asked) -> Tensor:
    """The semantic map alone: the masks of hundreds of instances would cost more than all else."""
    head = sam3.mask_decoder
    change, _ = head.prompt_cross_attn(
        query=head.prompt_cross_attn_norm(tokens_QND),
        key=asked.features,
        value=asked.features,
        attention_mask=asked.mask[:, None, None].expand(-1, -1, tokens_QND.shape[1], -1),
    )
    fused_QND = tokens_QND + head.prompt_cross_attn_dropout(change)
    coarse = fused_QND.transpose(1, 2).reshape(levels[-1].shape)
    masks: Tensor = head.semantic_projection(head.pixel_decoder([*levels[:-1], coarse]))
    return masks
