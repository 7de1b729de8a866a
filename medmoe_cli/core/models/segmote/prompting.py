"""Prompts of any mix of kinds become tokens and a dense map, in one call and without a loop over queries.

Shapes: Q queries, S token slots, D width, P prompt tokens of the tokenizer, h w the embedding's grid.

Every query owns the same slots; the mask says which it uses, and masked slots take part in no attention, so a query's
answer does not depend on how many points its neighbours have. The slots are
`[points | SAM's padding point | two box corners | text | tokenizer's prompt tokens]`. As in SAM, a query with points
and no box carries one padding point; a query with neither is self-prompted and carries the tokenizer's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.segmote.guidance import ellipse_logits, grid_coordinates, has_box
from medmoe_cli.core.models.segmote.ppt import PromptTokenizer
from medmoe_cli.core.models.segmote.text import ClipText, LearnedText
from medmoe_cli.core.nn.segmenter import Prompts

BACKGROUND, FOREGROUND, CORNER_FIRST, CORNER_LAST = range(4)  # order of SAM's point embeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPrompts:
    """Tokens (Q, S, D), which of them are in use (Q, S) bool, and the dense map (Q, D, h, w)."""

    tokens: Tensor
    used: Tensor
    dense: Tensor


def encode_prompts(
    prompts: Prompts,
    *,
    prompt_encoder: PromptEncoder,
    text: LearnedText | ClipText | None,
    tokenizer: PromptTokenizer | None,
    embedding_QDhw: Tensor,
    draw_boxes: bool = False,
) -> EncodedPrompts:
    """Encode Q prompts with SAM's prompt encoder, the class texts and the tokenizer.

    With `draw_boxes` a box without a mask prompt comes with the mask of the ellipse inscribed into it.
    """
    dense_QDhw = dense_prompts(_with_ellipses(prompts, prompt_encoder) if draw_boxes else prompts, prompt_encoder).to(
        embedding_QDhw.dtype
    )
    tokens, used = sparse_prompts(prompts, prompt_encoder)
    has_text_Q = prompts.class_index >= 0
    zero_QD = embedding_QDhw.new_zeros(prompts.num_queries, embedding_QDhw.shape[1])
    text_QD = zero_QD
    if text is not None:
        text_QD = torch.where(has_text_Q[:, None], text(prompts.class_index), zero_QD)
        tokens.append(text_QD[:, None])
        used.append(has_text_Q[:, None])
    if tokenizer is not None:
        # Only self-prompted queries pay for it; an empty selection still reaches every parameter (zero gradient).
        chosen = _lacks_points_and_box(prompts).nonzero().squeeze(1)
        made_KPD = tokenizer((embedding_QDhw + dense_QDhw)[chosen], text_QD[chosen])
        shape = (prompts.num_queries, *made_KPD.shape[1:])
        tokens.append(made_KPD.new_zeros(shape).index_copy(0, chosen, made_KPD))
        used.append(_lacks_points_and_box(prompts)[:, None].expand(shape[:2]))
    return EncodedPrompts(tokens=torch.cat(tokens, dim=1), used=torch.cat(used, dim=1), dense=dense_QDhw)


def sparse_prompts(prompts: Prompts, prompt_encoder: PromptEncoder) -> tuple[list[Tensor], list[Tensor]]:
    """Tokens and masks of the points, the padding point and the box corners.

    SAM adds half a pixel to integer pixel indices; here coordinates are continuous already: a point's pixel centre is
    at +0.5, and the edges of a box are moved inwards by half a pixel, onto the centres of the outermost pixels.
    """
    weights_4D = torch.cat([embedding.weight for embedding in prompt_encoder.point_embeddings])
    padding_D = prompt_encoder.not_a_point_embed.weight[0]
    used_QN = prompts.point_labels != -1
    has_box_Q = has_box(prompts)
    kind_QN = torch.where(prompts.point_labels == 1, FOREGROUND, BACKGROUND)
    points_QND = _positions(prompts.points, prompt_encoder) + weights_4D[kind_QN]
    points_QND = torch.where(used_QN[..., None], points_QND, torch.zeros_like(points_QND))
    padding_Q1D = padding_D.expand(prompts.num_queries, 1, -1)
    corners_Q22 = prompts.boxes.nan_to_num().reshape(-1, 2, 2)
    corners_Q22 = corners_Q22 + corners_Q22.new_tensor([[0.5, 0.5], [-0.5, -0.5]])
    corners_Q2D = _positions(corners_Q22, prompt_encoder) + weights_4D[[CORNER_FIRST, CORNER_LAST]]
    corners_Q2D = torch.where(has_box_Q[:, None, None], corners_Q2D, torch.zeros_like(corners_Q2D))
    has_padding_Q1 = (used_QN.any(dim=1) & ~has_box_Q)[:, None]
    return [points_QND, padding_Q1D, corners_Q2D], [used_QN, has_padding_Q1, has_box_Q[:, None].expand(-1, 2)]


def dense_prompts(prompts: Prompts, prompt_encoder: PromptEncoder) -> Tensor:
    """(Q, D, h, w): the embedded mask prompt, or SAM's constant where a query has none."""
    grid = tuple(prompt_encoder.image_embedding_size)
    none_QDhw = prompt_encoder.no_mask_embed.weight[0][:, None, None].expand(prompts.num_queries, -1, *grid)
    masks_Q1hw = prompts.masks
    if masks_Q1hw is None:
        if not (torch.is_grad_enabled() and prompt_encoder.no_mask_embed.weight.requires_grad):
            return none_QDhw
        # Distributed training waits for a gradient of every parameter: embed masks that nobody uses.
        masks_Q1hw = none_QDhw.new_zeros(prompts.num_queries, 1, *prompt_encoder.mask_input_size)
    if tuple(masks_Q1hw.shape[-2:]) != tuple(prompt_encoder.mask_input_size):
        masks_Q1hw = F.interpolate(
            masks_Q1hw, size=tuple(prompt_encoder.mask_input_size), mode="bilinear", align_corners=False
        )
    embedded_QDhw = prompt_encoder.mask_downscaling(masks_Q1hw)
    return torch.where(prompts.has_mask[:, None, None, None], embedded_QDhw, none_QDhw)


def _with_ellipses(prompts: Prompts, prompt_encoder: PromptEncoder) -> Prompts:
    side = prompt_encoder.mask_input_size[0]
    x, y = grid_coordinates(side, input_size=prompt_encoder.input_image_size[0], like=prompts.boxes)
    ellipses_Q1hw = ellipse_logits(prompts, x, y)[:, None]
    if prompts.masks is None:
        masks_Q1hw = ellipses_Q1hw
    else:
        given_Q1hw = F.interpolate(prompts.masks, size=(side, side), mode="bilinear", align_corners=False)
        masks_Q1hw = torch.where(prompts.has_mask[:, None, None, None], given_Q1hw, ellipses_Q1hw)
    return replace(prompts, masks=masks_Q1hw, has_mask=prompts.has_mask | has_box(prompts))


def _positions(xy_QN2: Tensor, prompt_encoder: PromptEncoder) -> Tensor:
    """Random-frequency code of continuous pixel coordinates, (Q, N, D)."""
    return prompt_encoder.pe_layer.forward_with_coords(xy_QN2, prompt_encoder.input_image_size)


def _lacks_points_and_box(prompts: Prompts) -> Tensor:
    return (prompts.point_labels == -1).all(dim=1) & ~has_box(prompts)
