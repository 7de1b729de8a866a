"""Windows without padding: the token grid cut into groups of equally shaped windows.

SAM pads the grid to a multiple of the window. Here the last row and column of windows simply stay smaller, and
windows of one shape are attended to together: interior, right edge, bottom edge, corner.

Shapes: B images, H W token grid, D width, h w window, N = h*w tokens of a window, M windows of a group (B included).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowGroup:
    """Equally shaped windows that tile a rectangle of the grid.

    Attributes:
        top, left: where the rectangle begins.
        rows, columns: number of windows down and across.
        height, width: tokens of one window; at most the window's nominal side.
    """

    top: int
    left: int
    rows: int
    columns: int
    height: int
    width: int

    def cut(self, grid_BHWD: Tensor) -> Tensor:
        """Windows of this group as (M, h, w, D), M = B * rows * columns."""
        batch, _, _, depth = grid_BHWD.shape
        part = grid_BHWD[
            :, self.top : self.top + self.rows * self.height, self.left : self.left + self.columns * self.width
        ]
        windows = part.reshape(batch, self.rows, self.height, self.columns, self.width, depth)
        return windows.transpose(2, 3).reshape(-1, self.height, self.width, depth)

    def join(self, windows_MhwD: Tensor) -> Tensor:
        """The rectangle (B, rows * h, columns * w, D) that the windows came from."""
        depth = windows_MhwD.shape[-1]
        windows = windows_MhwD.reshape(-1, self.rows, self.columns, self.height, self.width, depth)
        return windows.transpose(2, 3).reshape(-1, self.rows * self.height, self.columns * self.width, depth)


def window_groups(height: int, width: int, window: int) -> tuple[tuple[WindowGroup, ...], ...]:
    """Cut a grid into groups: the outer tuple runs down, the inner one across (at most 2 x 2)."""
    return tuple(
        tuple(
            WindowGroup(top=top, left=left, rows=rows, columns=columns, height=h, width=w)
            for left, columns, w in cuts(width, window)
        )
        for top, rows, h in cuts(height, window)
    )


def join_groups(parts: list[list[Tensor]]) -> Tensor:
    """Put the groups' rectangles (B, ., ., D) back into one grid (B, H, W, D)."""
    return _cat([_cat(row, 2) for row in parts], 1)


def _cat(tensors: list[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def cuts(length: int, window: int) -> list[tuple[int, int, int]]:
    """(start, number of windows, window side) of the whole windows and of the rest."""
    whole, rest = divmod(length, window)
    whole_part = [(0, whole, window)] if whole else []
    return [*whole_part, (whole * window, 1, rest)] if rest else whole_part
