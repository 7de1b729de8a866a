"""A convolutional stem for small SAM3s that learn from few images: it makes the tokens, and finer maps on the way.

A patch embedding learns slowly from few images; convolutions learn edges in the first hundred steps, and their outputs
are the detail that small masks need.

Shapes: B images, S side of the input, P patch; level l has stride 2^l.
"""

from __future__ import annotations

from torch import Tensor, nn

_MOST_CHANNELS = 96


class ConvStem(nn.Module):
    """Convolutions at strides 1 to P, each level twice as coarse and up to twice as wide as the one before.

    Args:
        patch: P, a power of two: the stride of the tokens.
        finest: stride of the finest map that is given out, a power of two less than P.
        channels: of the map at stride 1.
        token_width: channels of the tokens.
        width: channels of the maps that are given out.
    """

    def __init__(self, *, patch: int, finest: int, channels: int, token_width: int, width: int) -> None:
        super().__init__()
        num_levels = patch.bit_length() - 1  # strides 1, 2, ..., P / 2
        widths = [min(channels * 2**level, max(channels, _MOST_CHANNELS)) for level in range(num_levels)]
        self.levels = nn.ModuleList(
            nn.Sequential(_conv(previous, own, stride=1 if level == 0 else 2), _conv(own, own))
            for level, (previous, own) in enumerate(zip([3, *widths[:-1]], widths, strict=True))
        )
        self.tokens = nn.Conv2d(widths[-1], token_width, 3, stride=2, padding=1)
        self.first = finest.bit_length() - 1
        self.skips = nn.ModuleList(nn.Conv2d(own, width, 1) for own in widths[self.first :])

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Tokens (B, D, S/P, S/P), and maps (B, width, S/s, S/s) for the strides s = finest, ..., P / 2."""
        x = pixels_B3SS
        found: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        skips = tuple(skip(own) for skip, own in zip(self.skips, found[self.first :], strict=True))
        return self.tokens(x), skips


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()
    )
