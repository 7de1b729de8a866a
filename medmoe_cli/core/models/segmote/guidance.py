"""Prompts drawn as maps: a box as the ellipse it holds, clicks as soft discs.

From scratch a decoder must learn from few images what a box token means; drawn, the box is an answer already: an
ellipse inscribed into it has a Dice of about 0.8 with an organ's outline, and what is left to learn is the difference.

Shapes: Q queries, N points; maps are (Q, h, w) on any grid of points, given by their coordinates in input pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medmoe_cli.core.nn.segmenter import Prompts

NUM_MAPS = 4
ELLIPSE_SLOPE = 4.0  # logit at the centre; falls to 0 on the ellipse
_CLICK_REACH = 3 / 64  # of the input's side
_EDGE_REACH = 1 / 64


def has_box(prompts: Prompts) -> Tensor:
    """(Q,) bool."""
    return ~prompts.boxes.isnan().any(dim=1)


def ellipse_logits(prompts: Prompts, x: Tensor, y: Tensor, *, lowest: float = -6.0) -> Tensor:
    """Logits of the ellipse inscribed into each query's box, at most 4; zero for queries without one.

    Args:
        prompts: in input pixels.
        x: coordinates that broadcast with `y` to (Q, h, w).
        y: likewise.
        lowest: logit far away from the box.
    """
    across, down = _offsets(prompts, x, y)
    radius = (across.square() + down.square()).sqrt()
    return (ELLIPSE_SLOPE * (1 - radius)).clamp(min=lowest) * has_box(prompts)[:, None, None]


def draw(prompts: Prompts, x: Tensor, y: Tensor, *, input_size: int) -> Tensor:
    """(Q, 4, h, w) maps of order one: ellipse, distance to the box's edge, foreground clicks, background clicks."""
    half_x, half_y = _half_sides(prompts)
    across, down = _offsets(prompts, x, y)
    inside = torch.minimum((1 - across.abs()) * half_x, (1 - down.abs()) * half_y)
    edge = (inside / (_EDGE_REACH * input_size)).clamp(-1, 1) * has_box(prompts)[:, None, None]
    points_QN11 = prompts.points[..., None, None]
    distance = ((x[:, None] - points_QN11[:, :, 0]).square() + (y[:, None] - points_QN11[:, :, 1]).square()).sqrt()
    near_QNhw = torch.exp(-distance / (_CLICK_REACH * input_size))
    clicks = [
        (near_QNhw * (prompts.point_labels == label)[..., None, None]).sum(dim=1).clamp(max=1) for label in (1, 0)
    ]
    return torch.stack([ellipse_logits(prompts, x, y) / ELLIPSE_SLOPE, edge, *clicks], dim=1)


def previous_mask(prompts: Prompts, *, like: Tensor) -> Tensor:
    """(Q, 1, h, w): the mask prompt brought to order one, on the grid of `like`; zero where there is none."""
    if prompts.masks is None:
        return like.new_zeros(prompts.num_queries, 1, *like.shape[-2:])
    masks_Q1hw = prompts.masks
    if masks_Q1hw.shape[-2:] != like.shape[-2:]:
        masks_Q1hw = F.interpolate(masks_Q1hw, size=like.shape[-2:], mode="bilinear", align_corners=False)
    return (masks_Q1hw / 4).tanh() * prompts.has_mask[:, None, None, None]


def grid_coordinates(size: int, *, input_size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """X (1, 1, size) and y (1, size, 1) of the centres of a grid of cells that covers the input."""
    centres = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (input_size / size)
    return centres[None, None, :], centres[None, :, None]


def _half_sides(prompts: Prompts) -> tuple[Tensor, Tensor]:
    boxes = prompts.boxes.nan_to_num()
    sides = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=0.5)
    return sides[:, 0, None, None], sides[:, 1, None, None]


def _offsets(prompts: Prompts, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets from the box's centre in half sides, 1 on its edge."""
    boxes = prompts.boxes.nan_to_num()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half_x, half_y = _half_sides(prompts)
    return (x - centres[:, 0, None, None]) / half_x, (y - centres[:, 1, None, None]) / half_y
