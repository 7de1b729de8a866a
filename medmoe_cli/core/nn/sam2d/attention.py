"""SAM's attention with decomposed relative positions, fused and free of padding.

Source: segment_anything's `Attention` and `add_decomposed_rel_pos` (the parameters and their names are the same).
Differs in how it computes, not in what:
    1. Windows are not padded. SAM pads the grid after norm1 with zeros, so every padded key and value is the
       constant qkv bias. Together they act as one virtual key whose logit is the logarithm of the summed
       exponentials of the position bias over the padded places. Pinned by tests/parity/test_sam_encoder.py.
    2. `scaled_dot_product_attention` with the position bias as its mask. A bias that would be large (4096 x 4096
       per head at 1024 pixels) is never whole in memory: without gradients the heads go in chunks; with gradients
       the bias is carried inside the dot product, q.k + bias_h[row] + bias_w[column] being one dot product of
       [q, bias_h, bias_w] with [k, onehot(row), onehot(column)].

Shapes: M windows (or images), A heads, h w their token grid, N = h*w, d channels of a head, K = key places of an axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.sam2d.windows import join_groups, window_groups

LARGEST_BIAS = 1 << 24  # elements held for the backward pass: 64 MiB in float32
CHUNK_OF_BIAS = 1 << 22  # elements of a chunk's bias without gradients, unless one head needs more


class Attention(nn.Module):
    """Multi-head self-attention over windows, or over the whole grid when `window` is 0.

    Args:
        width: channels.
        num_heads: heads.
        window: side of a window in tokens; 0 for attention over the whole grid.
        grid: side of the token grid, which sizes the tables of global attention.
    """

    def __init__(self, width: int, *, num_heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        side = window or grid
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // num_heads))

    def forward(self, tokens_BHWD: Tensor, delta_qkv: Tensor | None = None) -> Tensor:
        """Attend; (B, H, W, D) to the same shape.

        Args:
            tokens_BHWD: normalised tokens.
            delta_qkv: (B, H, W, 3D) to add to queries, keys and values; zero where a token is zero, as a linear map
                without bias is, so that SAM's padding stays the constant it is.
        """
        qkv = self.qkv(tokens_BHWD)
        if delta_qkv is not None:
            qkv = qkv + delta_qkv
        if not self.window:
            return self.proj(self._attend(qkv, side=tokens_BHWD.shape[1]))
        _, height, width, _ = tokens_BHWD.shape
        parts = [
            [group.join(self._attend(group.cut(qkv), side=self.window)) for group in row]
            for row in window_groups(height, width, self.window)
        ]
        return self.proj(join_groups(parts))

    def _attend(self, qkv_MhwD: Tensor, *, side: int) -> Tensor:
        """Attention inside each (h, w) grid that is the upper left part of a `side` x `side` window."""
        windows, height, width, _ = qkv_MhwD.shape
        heads = qkv_MhwD.reshape(windows, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q_MANd, k_MANd, v_MANd = heads.unbind(0)
        q_MAhwd = q_MANd.reshape(windows, self.num_heads, height, width, -1)
        bias_h = torch.einsum("mahwd,hkd->mahwk", q_MAhwd, offsets(self.rel_pos_h, height, side))
        bias_w = torch.einsum("mahwd,wkd->mahwk", q_MAhwd, offsets(self.rel_pos_w, width, side))
        bias_h, bias_w = bias_h.flatten(2, 3), bias_w.flatten(2, 3)
        if height < side or width < side:
            out = self._attend_partial(q_MANd, k_MANd, v_MANd, bias_h, bias_w, height, width)
        else:
            out = attend(q_MANd, k_MANd, v_MANd, bias_h, bias_w)
        return out.transpose(1, 2).reshape(windows, height, width, -1)

    def _attend_partial(
        self, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, height: int, width: int
    ) -> Tensor:
        """Attention in a window of which only (height, width) are real: one virtual key stands for the rest."""
        _, key, value = self.qkv.bias.to(k.dtype).reshape(3, self.num_heads, 1, -1)
        k = torch.cat([k, key.expand(len(k), -1, -1, -1)], 2)
        v = torch.cat([v, value.expand(len(v), -1, -1, -1)], 2)
        real = bias_h[..., :height, None] + bias_w[..., None, :width]
        mask = torch.cat([real.flatten(-2), padding_logit(bias_h, bias_w, height, width)], -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def padding_logit(bias_h: Tensor, bias_w: Tensor, height: int, width: int) -> Tensor:
    """Position logit of all padded places of a window together.

    The padded places are the rows below `height` (any column) and, of the rows above, the columns right of `width`.

    Args:
        bias_h: (..., K_h) position bias of a query for every row of the full window.
        bias_w: (..., K_w) likewise for every column.
        height: real rows, at most K_h.
        width: real columns, at most K_w.

    Returns:
        (..., 1): log sum exp(bias_h[row] + bias_w[column]) over the padded places; at least one must exist.
    """
    masses = []
    if width < bias_w.shape[-1]:
        right = bias_w[..., width:].logsumexp(-1, keepdim=True)
        masses.append(bias_h[..., :height].logsumexp(-1, keepdim=True) + right)
    if height < bias_h.shape[-1]:
        below = bias_h[..., height:].logsumexp(-1, keepdim=True)
        masses.append(below + bias_w.logsumexp(-1, keepdim=True))
    return masses[0] if len(masses) == 1 else torch.logaddexp(*masses)


def attend(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """Attention over a full (h, w) grid with a decomposed bias.

    Args:
        q: (M, A, N, d) queries; `k` and `v` have the same shape, keys in row-major order of the grid.
        k: keys.
        v: values.
        bias_h: (M, A, N, h) bias of each query for each key row.
        bias_w: (M, A, N, w) bias of each query for each key column.

    Returns:
        (M, A, N, d).
    """
    windows, heads, tokens, _ = q.shape
    if not bias_h.requires_grad:
        return _attend_in_chunks(q, k, v, bias_h, bias_w)
    if windows * heads * tokens * tokens <= LARGEST_BIAS:
        mask = (bias_h.unsqueeze(-1) + bias_w.unsqueeze(-2)).flatten(-2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return _attend_extended(q, k, v, bias_h, bias_w)


def _attend_in_chunks(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """`attend` without gradients: a few heads at a time, every chunk's bias written into the same memory.

    Fresh memory for each bias would cost more time than the attention itself at 4096 tokens.
    """
    tokens, height, width = q.shape[2], bias_h.shape[-1], bias_w.shape[-1]
    chunk = max(1, CHUNK_OF_BIAS // (tokens * tokens))
    streams = [tensor.flatten(0, 1).split(chunk) for tensor in (q, k, v, bias_h, bias_w)]
    bias = q.new_empty(len(streams[0][0]), tokens, height, width)
    parts = []
    for part_q, part_k, part_v, part_h, part_w in zip(*streams, strict=True):
        mask = torch.add(part_h.unsqueeze(-1), part_w.unsqueeze(-2), out=bias[: len(part_q)]).flatten(-2)
        parts.append(F.scaled_dot_product_attention(part_q[None], part_k[None], part_v[None], attn_mask=mask[None]))
    return torch.cat(parts, 1).reshape(q.shape)


def _attend_extended(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """`attend` with the bias inside the dot product, so that backward holds no N x N tensor either."""
    head_width, height, width = q.shape[-1], bias_h.shape[-1], bias_w.shape[-1]
    row = torch.eye(height, dtype=q.dtype, device=q.device).repeat_interleave(width, 0)
    column = torch.eye(width, dtype=q.dtype, device=q.device).repeat(height, 1)
    places = torch.cat([row, column], 1).expand(*k.shape[:2], -1, -1)
    q = torch.cat([q * head_width**-0.5, bias_h, bias_w], -1)
    k = torch.cat([k, places], -1)
    v = F.pad(v, (0, height + width))  # the fused kernels want values as wide as keys
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :head_width]


def offsets(table_Ld: Tensor, queries: int, keys: int) -> Tensor:
    """Rows of the table for every (query, key) pair of an axis: (queries, keys, d); L = 2 * keys - 1."""
    steps = torch.arange(queries, device=table_Ld.device)[:, None] - torch.arange(keys, device=table_Ld.device)
    return table_Ld[steps + keys - 1]
