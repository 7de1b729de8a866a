"""Layer norm over the channels of a volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm3d(nn.Module):
    """Normalise each voxel of (B, C, D, H, W) over its channels; parameters `weight` and `bias` of C."""

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        """The same shape, normalised."""
        last = volume_BCDHW.movedim(1, -1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)
