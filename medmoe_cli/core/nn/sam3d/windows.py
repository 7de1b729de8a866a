"""Windows without padding in 3D: the token grid cut into groups of equally shaped windows.

Shapes: B volumes, D H W token grid, C width, d h w window, M windows of a group (B included).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from torch import Tensor

from medmoe_cli.core.nn.sam2d.windows import cuts


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowGroup:
    """Equally shaped windows that tile a box of the grid; all triples are along D, H, W.

    Attributes:
        start: where the box begins.
        count: number of windows.
        extent: tokens of one window; at most the window's nominal side.
    """

    start: tuple[int, int, int]
    count: tuple[int, int, int]
    extent: tuple[int, int, int]

    def cut(self, grid_BDHWC: Tensor) -> Tensor:
        """Windows of this group as (M, d, h, w, C), M = B * windows."""
        (nd, nh, nw), (d, h, w) = self.count, self.extent
        box = grid_BDHWC[self._box()]
        windows = box.reshape(len(box), nd, d, nh, h, nw, w, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return windows.reshape(-1, d, h, w, grid_BDHWC.shape[-1])

    def paste(self, windows_MdhwC: Tensor, grid_BDHWC: Tensor) -> None:
        """Write the windows to where they came from."""
        (nd, nh, nw), (d, h, w) = self.count, self.extent
        windows = windows_MdhwC.reshape(-1, nd, nh, nw, d, h, w, windows_MdhwC.shape[-1])
        box = windows.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, nd * d, nh * h, nw * w, windows_MdhwC.shape[-1])
        grid_BDHWC[self._box()] = box

    def _box(self) -> tuple[slice, ...]:
        spans = zip(self.start, self.count, self.extent, strict=True)
        return (slice(None), *(slice(start, start + count * side) for start, count, side in spans))


def window_groups(grid: tuple[int, int, int], window: int) -> tuple[WindowGroup, ...]:
    """Cut a grid into at most 2 x 2 x 2 groups: whole windows and what is left over, along each axis."""
    groups = []
    for along_d, along_h, along_w in product(*(cuts(length, window) for length in grid)):
        start, count, extent = zip(along_d, along_h, along_w, strict=True)
        groups.append(WindowGroup(start=start, count=count, extent=extent))
    return tuple(groups)
