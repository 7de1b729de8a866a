"""Mirrored views of an image or volume, and the way back for what the network says about them.

An image is shown as it is and mirrored along every combination of axes; the answers are mirrored back and averaged.
Where a mirrored axis exchanges left and right, so do the classes that carry a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

_DIMENSIONS = {"horizontal": -1, "vertical": -2, "x": -1, "y": -2, "z": -3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirroring:
    """Which axes are mirrored.

    Attributes:
        axes: 'horizontal', 'vertical', or 'x', 'y', 'z' of a volume (D, H, W) = (z, y, x); () for the image alone.
        swaps: by axis, pairs of output channels (label values) that change places in a mirrored image.
    """

    axes: tuple[str, ...] = ()
    swaps: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    @property
    def num_views(self) -> int:
        """V: the image itself and its mirrored versions."""
        return 2 ** len(self.axes)

    def views(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) or volumes (B, C, D, H, W) as (B, V, C, [D,] H, W), the image itself first."""
        views = [images]
        for axis in self.axes:
            views += [view.flip(_DIMENSIONS[axis]) for view in views]
        return torch.stack(views, dim=1)

    def merge(self, probabilities: Tensor) -> Tensor:
        """Mirror the views' answers (V, Q, C, [D,] H, W) back and average them: (Q, C, [D,] H, W).

        Halves are averaged pairwise, so that answers which agree come out unchanged to the last bit.
        """
        merged = probabilities
        for axis in reversed(self.axes):
            half = merged.shape[0] // 2
            back = merged[half:].flip(_DIMENSIONS[axis])[:, :, self._order(axis, merged.shape[2])]
            merged = (merged[:half] + back) / 2
        return merged[0]

    def _order(self, axis: str, num_channels: int) -> list[int]:
        order = list(range(num_channels))
        for one, other in self.swaps.get(axis, ()):
            order[one], order[other] = other, one
        return order
