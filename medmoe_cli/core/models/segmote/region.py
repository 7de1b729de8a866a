"""A second look: the answer's region is cut out of the fine features and drawn again at a resolution of its own.

An organ of twenty pixels covers five cells of the mask grid. Its region, the prompt's box or the first answer's, is
resampled to a fixed grid whatever its size, from features at stride 2 and from the image itself, also at a contrast of
its own, and a small U-Net adds to the first answer there. Outside the region the first answer stays, so that both are
trained by one loss.

Shapes: Q queries, N expert tokens, D token width, C mask channels, F fine channels, R side of the region's grid,
S side of the input, h w the mask grid. Coordinates and boxes are input pixels (x, y), pixel i covering [i, i + 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.models.segmote.guidance import NUM_MAPS, draw, has_box, previous_mask
from medmoe_cli.core.models.segmote.mote import TokenHeads
from medmoe_cli.core.nn.segmenter import Prompts

_WIDTH, _INNER_WIDTH = 32, 48
_CLICK_MARGIN = 0.08  # of the input's side, around a click without an answer
_SMALLEST = 6.0  # pixels, half side of a region
_FLAT = 1e-3  # of normalised pixels: a region of less contrast shows nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """What the second look works from, one row per query.

    Attributes:
        fine: (Q, F, S/2, S/2) fine features of the image.
        pixels: (Q, 3, S, S) the normalised image.
        features: (Q, C, h, w) the decoder's mask features.
        coarse: (Q, 1, h, w) first answer, logits.
        token: (Q, D) the chosen expert token.
        token_weights: (Q, N) its straight-through one-hot.
    """

    fine: Tensor
    pixels: Tensor
    features: Tensor
    coarse: Tensor
    token: Tensor
    token_weights: Tensor


class RegionRefiner(nn.Module):
    """A U-Net of one level on the region's grid, conditioned on the chosen expert token, with a head per token.

    Args:
        width: D.
        num_tokens: N.
        mask_channels: C.
        fine_channels: F.
        size: R.
        margin: the region's side over that of the box it is made from.
        contrast: the region's brightness is also shown with mean 0 and deviation 1.
    """

    def __init__(
        self,
        *,
        width: int,
        num_tokens: int,
        mask_channels: int,
        fine_channels: int,
        size: int,
        margin: float,
        contrast: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.margin = size, margin
        self.enter = nn.Conv2d(fine_channels + 3 + mask_channels + 1 + NUM_MAPS + 1, _WIDTH, 1)
        self.contrast = nn.Conv2d(1, _WIDTH, 1, bias=False) if contrast else None
        if self.contrast is not None:
            nn.init.zeros_(self.contrast.weight)  # begin as without it
        self.condition = nn.Linear(width, _WIDTH)
        self.before = _conv(_WIDTH, _WIDTH)
        self.down = _conv(_WIDTH, _INNER_WIDTH, stride=2)
        self.condition_inner = nn.Linear(width, _INNER_WIDTH)
        self.inner = nn.ModuleList(_residual(_INNER_WIDTH) for _ in range(2))
        self.up = nn.ConvTranspose2d(_INNER_WIDTH, _WIDTH, 2, 2)
        self.after = _conv(_WIDTH, _WIDTH)
        self.norm = nn.GroupNorm(8, _WIDTH)
        self.heads = TokenHeads(num_tokens=num_tokens, width=width, channels=_WIDTH)
        self.heads.soften(0.1)

    def forward(self, looked: Looked, prompts: Prompts, regions_Q4: Tensor) -> Tensor:
        """(Q, 1, R, R) logits to add to the first answer on the regions' grid."""
        x, y = region_coordinates(regions_Q4, self.size)
        input_size = looked.pixels.shape[-1]
        previous = previous_mask(prompts, like=looked.coarse)
        sampled = [
            sample(maps, x, y, input_size=input_size)
            for maps in (
                looked.fine,
                looked.pixels,
                torch.cat([looked.features, looked.coarse.clamp(-8, 8) / 4, previous], dim=1),
            )
        ]
        z = self.enter(torch.cat([*sampled, draw(prompts, x, y, input_size=input_size)], dim=1))
        if self.contrast is not None:
            z = z + self.contrast(_standardised(sampled[1]))
        z = z + self.condition(looked.token)[..., None, None]
        z = z + self.before(z.relu())
        inner = self.down(z) + self.condition_inner(looked.token)[..., None, None]
        for block in self.inner:
            inner = inner + block(inner)
        z = z + self.up(inner)
        z = self.norm(z + self.after(z)).relu()
        heads_QNC = self.heads(looked.token[:, None].expand(-1, looked.token_weights.shape[1], -1))
        head_QC = (looked.token_weights[..., None] * heads_QNC).sum(dim=1)
        return torch.einsum("qc,qcrs->qrs", head_QC, z)[:, None]


@torch.no_grad()
def choose_regions(prompts: Prompts, coarse_Q1hw: Tensor, *, input_size: int, margin: float) -> Tensor:
    """(Q, 4) regions to look at again: the box if there is one, else the first answer with the foreground clicks.

    Without box, answer and click it is the whole input.
    """
    found_Q4, any_Q = _bounds(coarse_Q1hw[:, 0] > 0, input_size=input_size)
    foreground_QN = prompts.point_labels == 1
    clicks_QN2 = torch.where(foreground_QN[..., None], prompts.points, torch.full_like(prompts.points, torch.nan))
    reach = _CLICK_MARGIN * input_size
    whole_Q4 = found_Q4.new_tensor([0, 0, input_size, input_size]).expand_as(found_Q4)
    if clicks_QN2.shape[1]:
        clicked_Q = foreground_QN.any(dim=1)
        low_Q2 = clicks_QN2.nan_to_num(nan=torch.inf).amin(dim=1)
        high_Q2 = clicks_QN2.nan_to_num(nan=-torch.inf).amax(dim=1)
        around_Q4 = torch.cat([low_Q2 - reach, high_Q2 + reach], dim=1)
        hull_Q4 = torch.cat(
            [torch.minimum(found_Q4[:, :2], low_Q2 - 2), torch.maximum(found_Q4[:, 2:], high_Q2 + 2)], dim=1
        )
        found_Q4 = torch.where(clicked_Q[:, None], torch.where(any_Q[:, None], hull_Q4, around_Q4), found_Q4)
        any_Q = any_Q | clicked_Q
    found_Q4 = torch.where(any_Q[:, None], found_Q4, whole_Q4)
    found_Q4 = torch.where(has_box(prompts)[:, None], prompts.boxes.nan_to_num(), found_Q4)
    centre_Q2 = (found_Q4[:, :2] + found_Q4[:, 2:]) / 2
    half_Q2 = ((found_Q4[:, 2:] - found_Q4[:, :2]) / 2 * margin).clamp(min=_SMALLEST)
    return torch.cat([centre_Q2 - half_Q2, centre_Q2 + half_Q2], dim=1)


def region_coordinates(regions_Q4: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """X (Q, 1, R) and y (Q, R, 1) of the centres of the regions' grids."""
    steps = (torch.arange(size, device=regions_Q4.device, dtype=regions_Q4.dtype) + 0.5) / size
    x = regions_Q4[:, 0, None] + (regions_Q4[:, 2] - regions_Q4[:, 0])[:, None] * steps
    y = regions_Q4[:, 1, None] + (regions_Q4[:, 3] - regions_Q4[:, 1])[:, None] * steps
    return x[:, None, :], y[:, :, None]


def sample(maps_QChw: Tensor, x: Tensor, y: Tensor, *, input_size: int) -> Tensor:
    """Bilinear samples (Q, C, R, R) of maps that cover the input, at coordinates in input pixels."""
    grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1) * (2 / input_size) - 1
    # In float32 always: eight bits of a coordinate are a pixel's error on a grid of 256.
    return F.grid_sample(maps_QChw.float(), grid.float(), padding_mode="border", align_corners=False)


def paste(region_Q1RR: Tensor, whole_Q1SS: Tensor, regions_Q4: Tensor) -> Tensor:
    """The whole answer with the regions' own put into place."""
    side = whole_Q1SS.shape[-1]
    centres = torch.arange(side, device=regions_Q4.device, dtype=regions_Q4.dtype) + 0.5
    u = (centres - regions_Q4[:, 0, None]) / (regions_Q4[:, 2] - regions_Q4[:, 0])[:, None] * 2 - 1
    v = (centres - regions_Q4[:, 1, None]) / (regions_Q4[:, 3] - regions_Q4[:, 1])[:, None] * 2 - 1
    u, v = u[:, None, :], v[:, :, None]
    grid = torch.stack(torch.broadcast_tensors(u, v), dim=-1)
    placed = F.grid_sample(region_Q1RR.float(), grid.float(), padding_mode="border", align_corners=False)
    inside = (u.abs() <= 1) & (v.abs() <= 1)
    return torch.where(inside[:, None], placed, whole_Q1SS)


def _standardised(pixels_QCRR: Tensor) -> Tensor:
    """(Q, 1, R, R): the region's brightness, mean 0 and deviation 1: organs of few grey levels are told apart too."""
    grey_Q1RR = pixels_QCRR.mean(dim=1, keepdim=True)
    mean_Q1RR, deviation_Q1RR = grey_Q1RR.mean(dim=(2, 3), keepdim=True), grey_Q1RR.std(dim=(2, 3), keepdim=True)
    return (grey_Q1RR - mean_Q1RR) / (deviation_Q1RR + _FLAT)


def _bounds(mask_Qhw: Tensor, *, input_size: int) -> tuple[Tensor, Tensor]:
    """(Q, 4) bounding boxes in input pixels, and (Q,) whether there is anything to bound."""
    rows, columns = mask_Qhw.any(dim=2).float(), mask_Qhw.any(dim=1).float()
    ends = [
        columns.argmax(dim=1),
        rows.argmax(dim=1),
        columns.shape[1] - columns.flip(1).argmax(dim=1),
        rows.shape[1] - rows.flip(1).argmax(dim=1),
    ]
    return torch.stack(ends, dim=1) * (input_size / mask_Qhw.shape[-1]), mask_Qhw.flatten(1).any(dim=1)


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()
    )


def _residual(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(8, width),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
    )
