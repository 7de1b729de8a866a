"""Prompts drawn as maps, for small models that train from scratch: what a box or a click means need not be learned.

A box becomes the ellipsoid it holds and the distance to its faces, clicks become soft balls, a mask prompt stays one.

Shapes: Q queries, N points, g side of a grid that covers the input cube; prompts are (x, y, z) along (W, H, D).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.nn.segmenter import Prompts

NUM_MAPS = 6
_SLOPE = 4.0  # of the ellipsoid's map at its centre, which falls to 0 on its surface
_FAR = -6.0
_CLICK_REACHES = (2 / 64, 6 / 64)  # of the input's side
_EDGE_REACH = 2 / 64
_MASK_SCALE = 4.0  # logits of this size count as sure


def draw(prompts: Prompts, *, grid: int, side: int) -> Tensor:
    """(Q, 6, g, g, g) maps of order one: ellipsoid, box faces, clicks inside (near, far) and outside, mask prompt.

    Args:
        prompts: in input voxels.
        grid: side of the maps.
        side: of the input.
    """
    centres_g = (torch.arange(grid, device=prompts.boxes.device, dtype=prompts.boxes.dtype) + 0.5) * (side / grid)
    places_3 = (centres_g[None, None, :], centres_g[None, :, None], centres_g[:, None, None])  # x, y, z on (D, H, W)
    ellipsoid, faces = _box_maps(prompts, places_3, side)
    near, far = (_click_map(prompts, places_3, label=1, reach=reach * side) for reach in _CLICK_REACHES)
    outside = _click_map(prompts, places_3, label=0, reach=_CLICK_REACHES[0] * side)
    return torch.stack([ellipsoid, faces, near, far, outside, _mask_map(prompts, grid)], 1)


def _box_maps(prompts: Prompts, places_3: tuple[Tensor, Tensor, Tensor], side: int) -> tuple[Tensor, Tensor]:
    has_box_Q111 = ~prompts.boxes.isnan().any(dim=1)[:, None, None, None]
    low_Q3, high_Q3 = prompts.boxes.nan_to_num().split(3, dim=1)
    half_Q3 = ((high_Q3 - low_Q3) / 2).clamp(min=0.5)
    centre_Q3 = (low_Q3 + high_Q3) / 2
    radius = torch.zeros((), device=half_Q3.device)
    inside = torch.full((), float("inf"), device=half_Q3.device)
    for axis, place in enumerate(places_3):
        half = half_Q3[:, axis, None, None, None]
        offset = (place - centre_Q3[:, axis, None, None, None]).abs() / half
        radius = radius + offset.square()
        inside = torch.minimum(inside, (1 - offset) * half)
    ellipsoid = (_SLOPE * (1 - radius.sqrt())).clamp(min=_FAR) / _SLOPE * has_box_Q111
    return ellipsoid, (inside / (_EDGE_REACH * side)).clamp(-1, 1) * has_box_Q111


def _click_map(prompts: Prompts, places_3: tuple[Tensor, Tensor, Tensor], *, label: int, reach: float) -> Tensor:
    points_QN3, wanted_QN = prompts.points, prompts.point_labels == label
    total = points_QN3.new_zeros(prompts.num_queries, *(places_3[0].shape[-1],) * 3)
    for index in range(points_QN3.shape[1]):  # clicks are few, maps are large
        squares = [
            (place - points_QN3[:, index, axis, None, None, None]).square() for axis, place in enumerate(places_3)
        ]
        ball = torch.exp(-(squares[0] + squares[1] + squares[2]).sqrt() / reach)
        total = torch.maximum(total, ball * wanted_QN[:, index, None, None, None])
    return total


def _mask_map(prompts: Prompts, grid: int) -> Tensor:
    if prompts.masks is None:
        return prompts.boxes.new_zeros(prompts.num_queries, grid, grid, grid)
    masks_Q1ggg = prompts.masks
    if masks_Q1ggg.shape[-1] != grid:
        masks_Q1ggg = F.interpolate(masks_Q1ggg, size=(grid,) * 3, mode="trilinear", align_corners=False)
    return (masks_Q1ggg[:, 0] / _MASK_SCALE).tanh() * prompts.has_mask[:, None, None, None]
