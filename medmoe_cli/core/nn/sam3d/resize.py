"""Position tables made for one cube, used at another."""

from __future__ import annotations

from torch import Size, Tensor
from torch.nn import functional as F


def resize_table_3d(name: str, tensor: Tensor, shape: Size) -> Tensor | None:
    """The table at another size, or None when `name` is no position table or cannot take that shape.

    Absolute tables (1, D, H, W, C) are resized trilinearly, relative tables (2 * side - 1, c) of global attention
    linearly (align_corners off). Window tables always fit: the window does not depend on the cube.

    Args:
        name: parameter name, with any prefix.
        tensor: the table as loaded.
        shape: the shape the model has.
    """
    last = name.rsplit(".", 1)[-1]
    if last == "pos_embed" and tensor.ndim == len(shape) == 5 and tensor.shape[-1] == shape[-1]:
        resized = F.interpolate(tensor.movedim(-1, 1).float(), size=shape[1:4], mode="trilinear")
        return resized.movedim(1, -1).to(tensor.dtype).contiguous()
    if (
        last in {"rel_pos_d", "rel_pos_h", "rel_pos_w"}
        and tensor.ndim == len(shape) == 2
        and tensor.shape[1] == shape[1]
    ):
        resized = F.interpolate(tensor.t()[None].float(), size=shape[0], mode="linear")
        return resized[0].t().to(tensor.dtype).contiguous()
    return None
