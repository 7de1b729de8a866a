"""Images of any number of channels for an encoder that takes grey or RGB."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from medmoe_cli.core.base.errors import ConfigError


def channel_mix(
    channels: int, *, context_slices: int = 0, projection: Literal["auto", "on", "off"] = "auto"
) -> nn.Conv2d | None:
    """A learned map of the channels to three, which begins as their means in turn; None where none is needed.

    Nothing is dropped: of five channels the first and the fourth begin as the first of the three. With neighbouring
    slices the map begins as the centre slice alone and learns what its neighbours are good for.

    Args:
        channels: of the input: the image's own, of every slice shown, first slice first.
        context_slices: neighbours shown on each side.
        projection: 'on' for a map also where 1 or 3 channels need none, 'off' for none.

    Raises:
        ConfigError: 'off' with a number of channels that the encoder does not take.
    """
    if projection == "off" and channels not in (1, 3):
        raise ConfigError(
            f"{channels} input channels without a projection",
            where="model.input_projection",
            why="SAM takes 1 or 3 channels",
            fix="set model.input_projection to auto",
        )
    if projection == "off" or (projection == "auto" and channels in (1, 3) and not context_slices):
        return None
    own = channels // (2 * context_slices + 1)
    mix = nn.Conv2d(channels, 3, kernel_size=1)
    with torch.no_grad():
        mix.weight.zero_()
        for channel in range(max(own, 3)):
            mix.weight[channel % 3, context_slices * own + channel % own] = 1
        mix.weight /= mix.weight.sum(dim=1, keepdim=True)
        assert mix.bias is not None
        mix.bias.zero_()
    return mix
