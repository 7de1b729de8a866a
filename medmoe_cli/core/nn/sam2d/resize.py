"""Position tables made for one image size, used at another.

Absolute tables (1, H, W, D) are resized bilinearly, relative tables (2 * side - 1, d) of global attention linearly
(align_corners off), as SAMed does and as segment_anything does lazily. Window tables always fit: the window is 14.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Size, Tensor


def resize_table(name: str, tensor: Tensor, shape: Size) -> Tensor | None:
    """The table at another size, or None when `name` is no position table or cannot take that shape.

    Args:
        name: parameter name, with any prefix.
        tensor: the table as loaded.
        shape: the shape the model has.
    """
    last = name.rsplit(".", 1)[-1]
    if last == "pos_embed" and tensor.ndim == 4 and len(shape) == 4 and tensor.shape[-1] == shape[-1]:
        resized = F.interpolate(tensor.permute(0, 3, 1, 2).float(), size=shape[1:3], mode="bilinear")
        return resized.permute(0, 2, 3, 1).to(tensor.dtype).contiguous()
    if last in {"rel_pos_h", "rel_pos_w"} and tensor.ndim == 2 and len(shape) == 2 and tensor.shape[1] == shape[1]:
        resized = F.interpolate(tensor.t()[None].float(), size=shape[0], mode="linear")
        return resized[0].t().to(tensor.dtype).contiguous()
    return None
