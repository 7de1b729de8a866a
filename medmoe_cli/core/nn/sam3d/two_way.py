"""SAM's two-way transformer with unused tokens hidden, over an image of any number of axes.

The modules are segment_anything's (so are their parameters' names); what is added is the mask over tokens, and fused
attention. With every token in use the result is theirs (tests/parity/test_sam3d_two_way.py).

Shapes: Q queries, T tokens, L image places, C width. `image_QLC` and the positions may have one row for all queries.
"""

from __future__ import annotations

from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor
from torch.nn import functional as F


def two_way(
    transformer: TwoWayTransformer, *, image_QLC: Tensor, positions_1LC: Tensor, tokens_QTC: Tensor, used_QT: Tensor
) -> tuple[Tensor, Tensor]:
    """All layers and the final attention: (Q, T, C) tokens and (Q, L, C) image.

    Args:
        transformer: its layers are run in order.
        image_QLC: image tokens.
        positions_1LC: their position codes.
        tokens_QTC: prompt and output tokens, which are also their own position codes.
        used_QT: bool; the other tokens are attended to by nobody.
    """
    x_QTC = tokens_QTC
    for block in transformer.layers:
        x_QTC, image_QLC = two_way_block(
            block,
            tokens_QTC=x_QTC,
            image_QLC=image_QLC,
            token_positions=tokens_QTC,
            positions_1LC=positions_1LC,
            used_QT=used_QT,
        )
    final = attend(transformer.final_attn_token_to_image, x_QTC + tokens_QTC, image_QLC + positions_1LC, image_QLC)
    return transformer.norm_final_attn(x_QTC + final), image_QLC


def two_way_block(
    block: TwoWayAttentionBlock,
    *,
    tokens_QTC: Tensor,
    image_QLC: Tensor,
    token_positions: Tensor,
    positions_1LC: Tensor,
    used_QT: Tensor,
) -> tuple[Tensor, Tensor]:
    """Tokens attend to each other, to the image, pass an MLP; then the image attends to the tokens."""
    x, mask = tokens_QTC, used_QT[:, None, None]
    if block.skip_first_layer_pe:
        x = attend(block.self_attn, x, x, x, mask)
    else:
        q = x + token_positions
        x = x + attend(block.self_attn, q, q, x, mask)
    x = block.norm1(x)
    x = x + attend(block.cross_attn_token_to_image, x + token_positions, image_QLC + positions_1LC, image_QLC)
    x = block.norm2(x)
    x = block.norm3(x + block.mlp(x))
    q = image_QLC + positions_1LC
    image_QLC = block.norm4(image_QLC + attend(block.cross_attn_image_to_token, q, x + token_positions, x, mask))
    return x, image_QLC


def attend(attention: Attention, q_QTC: Tensor, k_QLC: Tensor, v_QLC: Tensor, mask: Tensor | None = None) -> Tensor:
    """SAM's attention with its own projections, fused; a mask is True where a key may be attended to."""
    heads = attention.num_heads
    q, k, v = (
        projection(x).unflatten(2, (heads, -1)).transpose(1, 2)
        for projection, x in ((attention.q_proj, q_QTC), (attention.k_proj, k_QLC), (attention.v_proj, v_QLC))
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
