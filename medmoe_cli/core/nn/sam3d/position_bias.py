"""Decomposed relative position biases in 3D, for windows of which only a part is real.

Two forms, chosen by `Sam3dSize.published_positions`:

- the right one: bias[(d,h,w),(i,j,l)] = q[d,h,w].(Rd[d,i] + Rh[h,j] + Rw[w,l]);
- the published one, which the public weights learned:
  bias[(d,h,w),(i,j,l)] = q[d,h,w].Rd[d,l] + q[d,h,i].Rh[h,l] + q[d,h,j].Rw[j,l]. It takes other queries' vectors,
  those at w = i and w = j, among them padded ones, whose query is the constant qkv bias.

The padded keys of a window all have the same key and value (the qkv bias), so they act as one virtual key whose logit
is the log-sum-exp of the bias over the padded places (see nn/sam2d/attention.py, which does this in 2D).
Pinned by tests/parity/test_sam3d_windows.py and tests/parity/test_sam3d_golden.py.

Shapes: M windows (or volumes), A heads, d h w the real token grid of a window, N = d*h*w, c channels of a head,
S side of the full window, i j l key places along D, H, W. Leading dims of all biases are (M, A).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medmoe_cli.core.nn.sam2d.attention import offsets, padding_logit


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Relative position tables of one block, each (2 * side - 1, c), and the window's side."""

    d: Tensor
    h: Tensor
    w: Tensor
    side: int


def position_bias(q_MAdhwc: Tensor, tables: Tables) -> Tensor:
    """The right bias.

    Returns:
        (M, A, N, N), or (M, A, N, N + 1) with the padded places' logit last when the window is only partly real.
    """
    extent = (d, h, w) = _extent(q_MAdhwc)
    side = tables.side
    bias_d = torch.einsum("madhwc,dic->madhwi", q_MAdhwc, offsets(tables.d, d, side)).flatten(2, 4)
    bias_h = torch.einsum("madhwc,hjc->madhwj", q_MAdhwc, offsets(tables.h, h, side)).flatten(2, 4)
    bias_w = torch.einsum("madhwc,wlc->madhwl", q_MAdhwc, offsets(tables.w, w, side)).flatten(2, 4)
    plane = bias_h[..., :h, None] + bias_w[..., None, :w]
    real = (bias_d[..., :d, None, None] + plane[..., None, :, :]).flatten(-3)
    if min(extent) == side:
        return real
    masses = []
    if min(h, w) < side:
        masses.append(_mass(bias_d[..., :d]) + padding_logit(bias_h, bias_w, h, w))
    if d < side:
        masses.append(_mass(bias_d[..., d:]) + _mass(bias_h) + _mass(bias_w))
    return torch.cat([real, _total(masses)], -1)


def published_bias(q_MAdhwc: Tensor, tables: Tables, *, padded_query_Ac: Tensor) -> Tensor:
    """The bias of the public code.

    Args:
        q_MAdhwc: queries of the real places.
        tables: of the block; their window is a cube.
        padded_query_Ac: the query of every padded place.

    Returns:
        As `position_bias`.
    """
    extent = (d, h, w) = _extent(q_MAdhwc)
    side = tables.side
    row_MAdhSc = _extend(q_MAdhwc, side, padded_query_Ac)  # the queries of a whole row of the window
    first = torch.einsum("madhwc,dlc->madhwl", q_MAdhwc, offsets(tables.d, d, side))
    second = torch.einsum("madhic,hlc->madhil", row_MAdhSc, offsets(tables.h, h, side))
    third = torch.einsum("madhjc,jlc->madhjl", row_MAdhSc, offsets(tables.w, side, side))
    shared = (second[..., :d, None, :w] + third[..., None, :h, :w]).flatten(-3, -2)  # by every query of a row
    real = (first[..., None, :w] + shared[:, :, :, :, None]).flatten(-2)
    if min(extent) == side:
        return real.flatten(2, 4)
    # Per l: the summed mass of its padded (i, j); then the first term joins and l is summed over.
    per_l = []
    if min(d, h) < side:
        second_li, third_lj = second[..., :w].transpose(-1, -2), third[..., :w].transpose(-1, -2)
        per_l.append(padding_logit(second_li, third_lj, d, h).squeeze(-1))
        reached = first
    else:
        reached = first[..., w:]
    if w < side:
        per_l.append(second[..., w:].logsumexp(-2) + third[..., w:].logsumexp(-2))
    padded = (reached + torch.cat(per_l, -1)[..., None, :]).logsumexp(-1, keepdim=True)
    return torch.cat([real, padded], -1).flatten(2, 4)


def _extent(q_MAdhwc: Tensor) -> tuple[int, int, int]:
    d, h, w = q_MAdhwc.shape[2:5]
    return d, h, w


def _extend(q_MAdhwc: Tensor, side: int, padded_query_Ac: Tensor) -> Tensor:
    """(M, A, d, h, S, c): the rows along W, filled up with the padded places' query."""
    missing = side - q_MAdhwc.shape[4]
    if not missing:
        return q_MAdhwc
    filler = padded_query_Ac[:, None, None, None].to(q_MAdhwc.dtype)
    filler = filler.expand(len(q_MAdhwc), -1, *q_MAdhwc.shape[2:4], missing, -1)
    return torch.cat([q_MAdhwc, filler], 4)


def _mass(bias: Tensor) -> Tensor:
    return bias.logsumexp(-1, keepdim=True)


def _total(masses: list[Tensor]) -> Tensor:
    return masses[0] if len(masses) == 1 else torch.logaddexp(*masses)
