"""SAM-Med3D's windowed attention spelled out: windows padded with zeros, every place a key, biases by their formulas.

Slow and plain on purpose: the yardstick for attention without padding. Outputs of padded places are dropped, so only
the real places ask.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.nn.sam3d.attention import Attention3d


def padded_attention(attention: Attention3d, tokens_BDHWC: Tensor) -> Tensor:
    """What the module computes, from its own parameters; (B, D, H, W, C), a cube of tokens."""
    side, grid = attention.side, tokens_BDHWC.shape[1]
    missing = -grid % side
    padded = F.pad(tokens_BDHWC, (0, 0, *(0, missing) * 3))
    qkv = F.linear(padded, attention.qkv.weight, attention.qkv.bias)
    out = torch.zeros_like(padded)
    starts = range(0, grid, side)
    for z in starts:
        for y in starts:
            for x in starts:
                window = (slice(None), slice(z, z + side), slice(y, y + side), slice(x, x + side))
                real = tuple(min(side, grid - start) for start in (z, y, x))
                part = one_window(attention, qkv[window], real)
                out[:, z : z + real[0], y : y + real[1], x : x + real[2]] = part
    return attention.proj(out[:, :grid, :grid, :grid])


def one_window(attention: Attention3d, qkv_BSSS: Tensor, real: tuple[int, ...]) -> Tensor:
    """Attention from the real places to all S x S x S places of a window."""
    batch, side = qkv_BSSS.shape[:2]
    heads = attention.num_heads
    q, k, v = qkv_BSSS.reshape(batch, side, side, side, 3, heads, -1).permute(4, 0, 5, 1, 2, 3, 6)
    step = torch.arange(side)[:, None] - torch.arange(side) + side - 1
    table_d, table_h, table_w = attention.rel_pos_d[step], attention.rel_pos_h[step], attention.rel_pos_w[step]
    along_d = torch.einsum("badhwc,dkc->badhwk", q, table_d)
    along_h = torch.einsum("badhwc,hkc->badhwk", q, table_h)
    along_w = torch.einsum("badhwc,wkc->badhwk", q, table_w)
    d, h, w = real
    asked = (slice(None), slice(None), slice(d), slice(h), slice(w))
    if attention.published_positions:  # [b, a, d, h, w, i, j, l] = D[d,h,w,l] + H[d,h,i,l] + W[d,h,j,l]
        bias = (
            along_d[asked][:, :, :, :, :, None, None]
            + along_h[:, :, :d, :h, None, :, None]
            + along_w[:, :, :d, :h, None, None, :]
        )
    else:  # D[d,h,w,i] + H[d,h,w,j] + W[d,h,w,l]
        bias = (
            along_d[asked][..., :, None, None] + along_h[asked][..., None, :, None] + along_w[asked][..., None, None, :]
        )
    logits = q[asked].flatten(2, 4) @ k.flatten(2, 4).transpose(-1, -2) * q.shape[-1] ** -0.5
    mixed = (logits + bias.reshape(logits.shape)).softmax(-1) @ v.flatten(2, 4)
    return mixed.transpose(1, 2).reshape(batch, d, h, w, -1)
