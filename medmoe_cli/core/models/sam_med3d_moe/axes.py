"""Between medmoe's axes and those the public weights learned with.

medmoe shows canonical LPS volumes as (z, y, x): the first network axis runs to the head, the second to the back, the
third to the left. The public code takes the array (X, Y, Z) of a canonical RAS volume: right, front, head.
A model that starts from the public weights turns volumes, prompts and masks to their axes and its answers back.

Shapes: Q queries, S side of the input cube.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from medmoe_cli.core.nn.segmenter import Prompts


def to_published(volume_QCzyx: Tensor) -> Tensor:
    """(Q, C, z, y, x) in LPS to (Q, C, X, Y, Z) in RAS."""
    return volume_QCzyx.permute(0, 1, 4, 3, 2).flip(2, 3)


def from_published(volume_QCXYZ: Tensor) -> Tensor:
    """The way back."""
    return volume_QCXYZ.flip(2, 3).permute(0, 1, 4, 3, 2)


def prompts_to_published(prompts: Prompts, *, side: int) -> Prompts:
    """Prompts (x, y, z) of the network's input: x lies along the last axis, which holds z of the volume here."""
    x, y, z = prompts.points.unbind(-1)
    x0, y0, z0, x1, y1, z1 = prompts.boxes.unbind(-1)
    points, boxes = prompts.points.clone(), prompts.boxes.clone()
    for axis, place in enumerate((z, side - y, side - x)):
        points[..., axis] = place
    for edge, place in enumerate((z0, side - y1, side - x1, z1, side - y0, side - x0)):
        boxes[..., edge] = place
    masks = None if prompts.masks is None else to_published(prompts.masks)
    return replace(prompts, points=points, boxes=boxes, masks=masks)
