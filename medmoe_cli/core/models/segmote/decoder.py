"""SAM's two-way mask decoder with expert tokens (paper sections 3.2 and 3.3, fig. 2).

Shapes: Q queries, M SAM output tokens (IoU + 4 masks), N expert tokens, S prompt slots, T = M + N + S, L = h*w image
positions, D width, C = D/8 mask channels.

Tokens are `[SAM's M | experts N | prompts S]`. Each layer: self-attention; tokens attend to the image; the MLP for all
but the expert tokens, MoTE for those; the image attends to the tokens. SAM's own modules (package `segment_anything`)
do everything but MoTE; their attention is called through `attend`, which adds masks: unused prompt slots are hidden
from everyone, and with `isolate` expert tokens are hidden from SAM's tokens and from the image, so that SAM's masks
stay exactly what plain SAM makes of the same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.segmote.mote import Mote, MoteLayer, choose_token
from medmoe_cli.core.models.segmote.prompting import EncodedPrompts
from medmoe_cli.core.nn.moe import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What the decoder makes of Q queries.

    Attributes:
        low_res_logits: (Q, 1, H, W) mask of the chosen expert token, on the mask grid.
        features: (Q, C, H, W) mask features that the token's head was multiplied with.
        token: (Q, D) the chosen expert token.
        token_weights: (Q, N) one-hot of the chosen token, with the gradient of the softmax over tokens.
        choice: the same as a routing of queries to tokens.
        routing: by layer, which experts the tokens went through.
        heat: (Q, h, w) attention of the chosen token over the image, mean over heads; sums to one. None in training.
        sam_masks: (Q, 4, H, W) masks of SAM's own tokens when asked for, the single-mask one first.
        sam_scores: (Q, 4) SAM's predicted IoU of these.
    """

    low_res_logits: Tensor
    features: Tensor
    token: Tensor
    token_weights: Tensor
    choice: Routing
    routing: Mapping[str, Routing]
    heat: Tensor | None
    sam_masks: Tensor | None
    sam_scores: Tensor | None


def decode_masks(
    decoder: MaskDecoder,
    mote: Mote,
    *,
    embedding_QDhw: Tensor,
    position_1Dhw: Tensor,
    prompts: EncodedPrompts,
    image_features_QChw: Tensor | None,
    drawn_QMhw: Tensor | None = None,
    isolate: bool,
    return_sam_masks: bool = False,
) -> Decoded:
    """Answer Q queries.

    Args:
        decoder: SAM's mask decoder.
        mote: expert tokens, routed layers and heads.
        embedding_QDhw: image embedding of each query.
        position_1Dhw: SAM's position code of the grid.
        prompts: encoded prompts.
        image_features_QChw: high-resolution features of each query's image, None to use SAM's upscaled features alone.
        drawn_QMhw: the prompts as maps on the mask grid, for a guided model.
        isolate: hide expert tokens from SAM's tokens and image.
        return_sam_masks: also answer with SAM's own masks; they are plain SAM's only with `isolate`.
    """
    queries, grid = embedding_QDhw.shape[0], embedding_QDhw.shape[-2:]
    sam_MD = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    num_sam, num_experts = sam_MD.shape[0], mote.num_tokens
    experts = slice(num_sam, num_sam + num_experts)
    tokens_QTD = torch.cat([torch.cat([sam_MD, mote.tokens]).expand(queries, -1, -1), prompts.tokens], dim=1)
    masks = _attention_masks(prompts.used, num_sam=num_sam, num_experts=num_experts, isolate=isolate)
    x_QTD = tokens_QTD
    image_QLD = (embedding_QDhw + prompts.dense).flatten(2).transpose(1, 2)
    position_1LD = position_1Dhw.flatten(2).transpose(1, 2)
    routing: dict[str, Routing] = {}
    confidence_QN = x_QTD.new_zeros(queries, num_experts)
    for number, (block, layer) in enumerate(zip(decoder.transformer.layers, mote.layers, strict=True), start=1):
        assert isinstance(layer, MoteLayer)
        x_QTD, image_QLD, routing[f"layer{number}"], confidence_QN = _block(
            block, layer, x_QTD, image_QLD, tokens_QTD, position_1LD, experts=experts, masks=masks
        )
    final: Attention = decoder.transformer.final_attn_token_to_image
    query_QTD, key_QLD = x_QTD + tokens_QTD, image_QLD + position_1LD
    x_QTD = decoder.transformer.norm_final_attn(x_QTD + attend(final, query_QTD, key_QLD, image_QLD))
    upscaled_QChw = decoder.output_upscaling(image_QLD.transpose(1, 2).unflatten(2, grid))
    features_QChw = mote.mask_features(upscaled_QChw, image_features_QChw, drawn_QMhw)

    # Without the noise, as evaluation chooses, it is the last layer's logits that tell.
    settled_QN = routing[f"layer{len(mote.layers)}"].logits.amax(dim=-1).view_as(confidence_QN)
    weights_QN, choice = choose_token(settled_QN, noisy_QN=confidence_QN)
    expert_QND = x_QTD[:, experts]
    head_QC = (weights_QN[..., None] * mote.heads(expert_QND)).sum(dim=1)
    chosen_Q = choice.indices[:, 0]
    rows = torch.arange(queries, device=chosen_Q.device)
    heat = None
    if not mote.training:
        heat = _attention_map(final, query_QTD[:, experts][rows, chosen_Q], key_QLD).unflatten(1, grid)
    return Decoded(
        low_res_logits=torch.einsum("qc,qchw->qhw", head_QC, features_QChw)[:, None],
        features=features_QChw,
        token=expert_QND[rows, chosen_Q],
        token_weights=weights_QN,
        choice=choice,
        routing=routing,
        heat=heat,
        sam_masks=_sam_masks(decoder, x_QTD[:, 1:num_sam], upscaled_QChw) if return_sam_masks else None,
        sam_scores=decoder.iou_prediction_head(x_QTD[:, 0]) if return_sam_masks else None,
    )


def attend(attention: Attention, q_QTD: Tensor, k_QLD: Tensor, v_QLD: Tensor, mask: Tensor | None = None) -> Tensor:
    """SAM's attention with its own projections, fused, and with a mask (True = may attend, (Q|1, 1, T|1, L))."""
    heads = attention.num_heads
    q, k, v = (
        projection(x).unflatten(2, (heads, -1)).transpose(1, 2)
        for projection, x in ((attention.q_proj, q_QTD), (attention.k_proj, k_QLD), (attention.v_proj, v_QLD))
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Masks:
    """Attention masks, True = may attend: among tokens (Q, 1, T|1, T), from the image to the tokens (Q, 1, 1, T)."""

    tokens: Tensor
    image: Tensor


def _attention_masks(used_QS: Tensor, *, num_sam: int, num_experts: int, isolate: bool) -> _Masks:
    always = used_QS.new_ones(used_QS.shape[0], num_sam + num_experts)
    key_Q11T = torch.cat([always, used_QS], dim=1)[:, None, None]
    if not isolate:
        return _Masks(tokens=key_Q11T, image=key_Q11T)
    is_expert_T = torch.zeros_like(key_Q11T[0, 0, 0])
    is_expert_T[num_sam : num_sam + num_experts] = True
    # An expert sees everything, everyone else sees no expert.
    return _Masks(tokens=key_Q11T & (is_expert_T[:, None] | ~is_expert_T), image=key_Q11T & ~is_expert_T)


def _block(
    block: TwoWayAttentionBlock,
    layer: MoteLayer,
    x_QTD: Tensor,
    image_QLD: Tensor,
    tokens_QTD: Tensor,
    position_1LD: Tensor,
    *,
    experts: slice,
    masks: _Masks,
) -> tuple[Tensor, Tensor, Routing, Tensor]:
    """One two-way layer: tokens, image, routing, confidence of the expert tokens."""
    if block.skip_first_layer_pe:
        x_QTD = attend(block.self_attn, x_QTD, x_QTD, x_QTD, masks.tokens)
    else:
        q = x_QTD + tokens_QTD
        x_QTD = x_QTD + attend(block.self_attn, q, q, x_QTD, masks.tokens)
    x_QTD = block.norm1(x_QTD)
    x_QTD = x_QTD + attend(block.cross_attn_token_to_image, x_QTD + tokens_QTD, image_QLD + position_1LD, image_QLD)
    x_QTD = block.norm2(x_QTD)
    others_QOD = torch.cat([x_QTD[:, : experts.start], x_QTD[:, experts.stop :]], dim=1)
    others_QOD = others_QOD + block.mlp(others_QOD)
    experts_QND, routing, confidence_QN = layer(x_QTD[:, experts])
    x_QTD = torch.cat([others_QOD[:, : experts.start], experts_QND, others_QOD[:, experts.start :]], dim=1)
    x_QTD = block.norm3(x_QTD)
    from_tokens = attend(
        block.cross_attn_image_to_token, image_QLD + position_1LD, x_QTD + tokens_QTD, x_QTD, masks.image
    )
    return x_QTD, block.norm4(image_QLD + from_tokens), routing, confidence_QN


@torch.no_grad()
def _attention_map(attention: Attention, q_QD: Tensor, k_QLD: Tensor) -> Tensor:
    """(Q, L): where one token per query looks, averaged over heads."""
    heads = attention.num_heads
    q_QHE = attention.q_proj(q_QD).unflatten(1, (heads, -1))
    k_QLHE = attention.k_proj(k_QLD).unflatten(2, (heads, -1))
    scores_QHL = torch.einsum("qhe,qlhe->qhl", q_QHE, k_QLHE) * q_QHE.shape[-1] ** -0.5
    return scores_QHL.float().softmax(dim=-1).mean(dim=1)


def _sam_masks(decoder: MaskDecoder, tokens_Q4D: Tensor, upscaled_QChw: Tensor) -> Tensor:
    heads_Q4C = torch.stack(
        [head(tokens_Q4D[:, index]) for index, head in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    return torch.einsum("qnc,qchw->qnhw", heads_Q4C, upscaled_QChw)
