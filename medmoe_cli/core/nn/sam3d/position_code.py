"""Random-frequency position code of places in a cube."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PositionCode3d(nn.Module):
    """Codes of 3 * features channels: sin, cos and sin again of random projections (as the public code has it).

    Args:
        features: frequencies.
        published: swap the first two axes of `grid` relative to `at`, as the public weights expect.
    """

    def __init__(self, features: int, *, published: bool) -> None:
        super().__init__()
        self.published = published
        self.positional_encoding_gaussian_matrix: Tensor
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, features))

    def at(self, places: Tensor) -> Tensor:
        """Code of places (..., 3), each (d, h, w) in [0, 1] of the cube; float32 whatever the autocast.

        Three products and sums instead of a matrix product, whose rounding would depend on the number of places, and
        with it a query's answer on its neighbours.
        """
        frequencies = self.positional_encoding_gaussian_matrix.float()
        d, h, w = (2 * places.float() - 1).unsqueeze(-1).unbind(-2)
        angles = 2 * math.pi * (d * frequencies[0] + h * frequencies[1] + w * frequencies[2])
        return torch.cat([angles.sin(), angles.cos(), angles.sin()], -1)

    def grid(self, side: int) -> Tensor:
        """(1, 3 * features, D, H, W): the code of the centres of a grid's cells."""
        centres = (torch.arange(side, device=self.positional_encoding_gaussian_matrix.device) + 0.5) / side
        places = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij"), -1)
        if self.published:
            places = places[..., [1, 0, 2]]
        return self.at(places).movedim(-1, 0)[None]
