"""A convolutional stem in place of SAM's patches, for small encoders that train from scratch.

A patch embedding learns slowly from few images; convolutions learn edges in the first hundred steps, and their maps at
finer strides than the tokens' are the detail that a small mask needs.

Shapes: B images, S side of the input, D encoder width, h w the token grid.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Stemmed:
    """Tokens (B, h, w, D), and the stem's maps (B, C_i, S / stride_i, S / stride_i), finest first."""

    tokens: Tensor
    maps: tuple[Tensor, ...]


class ConvStem(nn.Module):
    """Pairs of convolutions at strides `stride`, 2 `stride`, ... up to half a patch; the last step makes the tokens.

    Args:
        width: D.
        patch: pixels of a token's side.
        stride: of the finest map, a power of two smaller than the patch.
        channels: of the finest map; doubled with every stride.
    """

    def __init__(self, width: int, *, patch: int, stride: int, channels: int) -> None:
        super().__init__()
        strides = [stride]
        while strides[-1] * 2 < patch:
            strides.append(strides[-1] * 2)
        self.strides = tuple(strides)
        self.channels = tuple(channels * 2**level for level in range(len(strides)))
        inputs = (3, *self.channels)
        steps = (stride, *[2] * (len(strides) - 1))
        self.levels = nn.ModuleList(
            nn.Sequential(conv_unit(before, after, stride=step), conv_unit(after, after))
            for before, after, step in zip(inputs, self.channels, steps, strict=False)
        )
        self.tokens = nn.Conv2d(self.channels[-1], width, 3, stride=2, padding=1)

    def forward(self, pixels_B3SS: Tensor) -> Stemmed:
        """Tokens and the maps on the way to them."""
        maps: list[Tensor] = []
        x = pixels_B3SS
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return Stemmed(tokens=self.tokens(x).permute(0, 2, 3, 1), maps=tuple(maps))


def conv_unit(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, group norm (an image's result never depends on its batch), ReLU."""
    groups = next(count for count in (8, 4, 2, 1) if outputs % count == 0)
    kernel = 3 if stride <= 2 else 2 * stride - 1
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(),
    )
