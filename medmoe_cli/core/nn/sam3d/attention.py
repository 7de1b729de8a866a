"""Windowed self-attention in 3D with decomposed relative positions, fused and free of padding.

The parameters and their names are those of SAM-Med3D's encoder. As in nn/sam2d/attention.py windows are not padded:
8 x 8 x 8 tokens stay 512 instead of becoming 14 x 14 x 14 = 2744, and one virtual key stands for the padded places.

Shapes: see position_bias.py; B volumes, D H W token grid, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmoe_cli.core.nn.sam3d.position_bias import Tables, position_bias, published_bias
from medmoe_cli.core.nn.sam3d.windows import window_groups

LARGEST_BIAS = 1 << 24  # elements of a bias held at once: 64 MiB in float32; more heads than that go in turns


class Attention3d(nn.Module):
    """Multi-head self-attention over windows, or over the whole grid when `window` is 0.

    Args:
        width: channels.
        num_heads: heads.
        window: side of a window in tokens; 0 for attention over the whole grid.
        grid: side of the token grid, a cube.
        published_positions: see `Sam3dSize`.
    """

    def __init__(self, width: int, *, num_heads: int, window: int, grid: int, published_positions: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.published_positions = published_positions
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        self.side = window or grid
        shape = (2 * self.side - 1, width // num_heads)
        self.rel_pos_d = nn.Parameter(torch.zeros(shape))
        self.rel_pos_h = nn.Parameter(torch.zeros(shape))
        self.rel_pos_w = nn.Parameter(torch.zeros(shape))

    def forward(self, tokens_BDHWC: Tensor) -> Tensor:
        """Attend; (B, D, H, W, C) to the same shape."""
        qkv = self.qkv(tokens_BDHWC)
        _, depth, height, width, _ = tokens_BDHWC.shape
        if (depth, height, width) == (self.side,) * 3 or (self.window and max(depth, height, width) <= self.window):
            return self.proj(self._attend(qkv))
        mixed = qkv.new_empty(tokens_BDHWC.shape)
        for group in window_groups((depth, height, width), self.window):
            group.paste(self._attend(group.cut(qkv)), mixed)
        return self.proj(mixed)

    def _attend(self, qkv_Mdhw: Tensor) -> Tensor:
        """Attention inside each (d, h, w) grid that is the first corner of a full window."""
        windows, *extent, _ = qkv_Mdhw.shape
        tokens = extent[0] * extent[1] * extent[2]
        qkv = qkv_Mdhw.reshape(windows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        padding_3Ac = self.qkv.bias.to(qkv.dtype).reshape(3, self.num_heads, -1)
        together = max(1, LARGEST_BIAS // (windows * tokens * tokens))
        parts = [
            self._attend_heads(heads_qkv, heads_padding, extent)
            for heads_qkv, heads_padding in zip(
                qkv.split(together, dim=2), padding_3Ac.split(together, dim=1), strict=True
            )
        ]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return mixed.transpose(1, 2).reshape(windows, *extent, -1)

    def _attend_heads(self, qkv_3MANc: Tensor, padding_3Ac: Tensor, extent: list[int]) -> Tensor:
        """Attention of some heads: (M, A, N, c)."""
        q, k, v = qkv_3MANc.unbind(0)
        query, key, value = padding_3Ac.unbind(0)
        q_MAdhwc = q.unflatten(2, extent)
        tables = Tables(d=self.rel_pos_d, h=self.rel_pos_h, w=self.rel_pos_w, side=self.side)
        if self.published_positions:
            bias = published_bias(q_MAdhwc, tables, padded_query_Ac=query)
        else:
            bias = position_bias(q_MAdhwc, tables)
        if bias.shape[-1] > k.shape[2]:
            k, v = _with_virtual(k, key), _with_virtual(v, value)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _with_virtual(tokens_MANc: Tensor, constant_Ac: Tensor) -> Tensor:
    """The keys (or values) with the one that stands for all padded places behind them."""
    virtual = constant_Ac[:, None].expand(len(tokens_MANc), -1, -1, -1)
    return torch.cat([tokens_MANc, virtual], 2)
