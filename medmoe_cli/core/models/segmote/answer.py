"""From the chosen token's mask to the answer at the input size.

Plain SegMoTE interpolates the mask. Two additions serve the small model that trains from scratch: the drawn box as the
answer to start from, and a second look at the answer's region.

Shapes: Q queries, S side of the input, h w the mask grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.models.segmote.decoder import Decoded
from medmoe_cli.core.models.segmote.guidance import ellipse_logits, grid_coordinates, has_box
from medmoe_cli.core.models.segmote.region import (
    Looked,
    RegionRefiner,
    choose_regions,
    paste,
    region_coordinates,
    sample,
)
from medmoe_cli.core.nn.segmenter import Prompts, View

# Sigmoid of it times all pixels of a large image is a fraction of a pixel: soft Dice does not see the far background.
_FAR_AWAY = -14.0
# With a box the first answer matters less: the region is the box, whatever it says.
_COARSE_OF_BOX = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Masks:
    """Logits at the input size (Q, 1, S, S) and on the mask grid (Q, 1, h, w); the views that are trained, if any."""

    logits: Tensor
    low_res_logits: Tensor
    views: tuple[View, ...] = ()


class Answer(nn.Module):
    """The last step of decoding.

    Args:
        input_size: S.
        prior: begin with the drawn box.
        region: the second look, None without one.
    """

    def __init__(self, *, input_size: int, prior: DrawnPrior | None, region: RegionRefiner | None) -> None:
        super().__init__()
        self.input_size = input_size
        self.prior = prior
        self.region = region

    def forward(self, decoded: Decoded, prompts: Prompts, maps: Mapping[str, Tensor]) -> Masks:
        """The masks of Q queries; `maps` are the features' ('fine' and 'pixels' for a second look)."""
        raw_Q1hw = decoded.low_res_logits
        coarse_Q1hw = raw_Q1hw
        if self.prior is not None:
            x, y = grid_coordinates(raw_Q1hw.shape[-1], input_size=self.input_size, like=prompts.boxes)
            coarse_Q1hw = raw_Q1hw + self.prior(prompts, x, y)
        logits_Q1SS = self.enlarge(coarse_Q1hw)
        if self.region is None:
            return Masks(logits=logits_Q1SS, low_res_logits=coarse_Q1hw)
        regions_Q4 = choose_regions(prompts, coarse_Q1hw, input_size=self.input_size, margin=self.region.margin)
        looked = Looked(
            fine=maps["fine"],
            pixels=maps["pixels"],
            features=decoded.features,
            coarse=coarse_Q1hw,
            token=decoded.token,
            token_weights=decoded.token_weights,
        )
        x, y = region_coordinates(regions_Q4, self.region.size)
        # A box begins anew from the drawn prior, whatever the first answer was; a click goes on from the first answer.
        first_Q1RR = sample(raw_Q1hw, x, y, input_size=self.input_size) * ~has_box(prompts)[:, None, None, None]
        region_Q1RR = self.region(looked, prompts, regions_Q4) + first_Q1RR
        if self.prior is not None:
            region_Q1RR = region_Q1RR + self.prior(prompts, x, y)
        # Each look is trained on its own grid: on the whole input a small organ's edge would weigh nothing.
        weights_Q = torch.where(has_box(prompts), _COARSE_OF_BOX, 1.0)
        views = (
            View(logits=coarse_Q1hw, regions=None, weights=weights_Q),
            View(logits=region_Q1RR, regions=regions_Q4, weights=torch.ones_like(weights_Q)),
        )
        # Outside its region a box has nothing; any other answer stays as it was, which is negative there.
        boxed_Q111 = has_box(prompts)[:, None, None, None]
        logits_Q1SS = torch.where(boxed_Q111, torch.full_like(logits_Q1SS, _FAR_AWAY), logits_Q1SS)
        logits_Q1SS = paste(region_Q1RR, logits_Q1SS, regions_Q4)
        return Masks(
            logits=logits_Q1SS,
            low_res_logits=F.interpolate(logits_Q1SS, size=raw_Q1hw.shape[-2:], mode="area"),
            views=views,
        )

    def enlarge(self, masks_QNhw: Tensor) -> Tensor:
        """Masks at the input size."""
        size = (self.input_size, self.input_size)
        return F.interpolate(masks_QNhw.float(), size=size, mode="bilinear", align_corners=False)


class DrawnPrior(nn.Module):
    """Where a query with a box begins: the inscribed ellipse; without one: a learned background."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.background = nn.Parameter(torch.tensor(-4.0))

    def forward(self, prompts: Prompts, x: Tensor, y: Tensor) -> Tensor:
        """Logits (Q, 1, *grid) at coordinates in input pixels."""
        ellipse_Qhw = ellipse_logits(prompts, x, y, lowest=_FAR_AWAY)
        logits = self.scale * ellipse_Qhw + self.background * ~has_box(prompts)[:, None, None]
        return logits[:, None]
