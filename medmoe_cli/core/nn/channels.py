"""Images of any number of channels for an encoder that takes grey or RGB."""

from __future__ import annotations

import torch
from torch import nn


def channel_mix(channels: int) -> nn.Conv2d | None:
    """A learned map of the channels to three, which begins as their means in turn; None where none is needed.

    Nothing is dropped: of five channels the first and the fourth begin as the first of the three.
    """
    if channels in (1, 3):
        return None
    mix = nn.Conv2d(channels, 3, kernel_size=1)
    with torch.no_grad():
        mix.weight.zero_()
        for channel in range(max(channels, 3)):
            mix.weight[channel % 3, channel % channels] = 1
        mix.weight /= mix.weight.sum(dim=1, keepdim=True)
        assert mix.bias is not None
        mix.bias.zero_()
    return mix
