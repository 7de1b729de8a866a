"""What is asked of a 3D model about a volume: one mask per request, prompted in voxels of the plan's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prompts_file import VolumePrompt
from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.engine.windows import BOX_MARGIN, POINT_MARGIN, Box3, Extent, Window
from medmoe_cli.core.imaging.vote import class_boxes
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, central_point, mask_prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where a structure really is, on the plan's grid.

    Attributes:
        labels_DHW: the label map, shared by the structures of a scan.
        value: the structure's.
        box: its bounding box.
    """

    labels_DHW: NDArray[Any]
    value: int
    box: Box3

    def cut(self, window: Window) -> NDArray[np.bool_]:
        """Its mask in a window (S, S, S)."""
        return np.asarray(window.cut(self.labels_DHW) == self.value)

    def within(self, place: Box3) -> NDArray[np.bool_]:
        """Its mask on a part of the volume."""
        return np.asarray(self.labels_DHW[place] == self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeRequest:
    """One mask asked for in a volume.

    Attributes:
        value: the label value written where this mask wins.
        prompt: places (x, y, z) in voxels of the plan's grid, voxel i covering [i, i + 1).
        reference: from which correction clicks (and a mask prompt) are drawn; None when nobody clicks.
        rounds: correction clicks to give.
        masked: the reference itself is the prompt.
    """

    value: int
    prompt: QueryPrompt
    reference: Reference | None = None
    rounds: int = 0
    masked: bool = False

    @property
    def is_prompted(self) -> bool:
        """A point, box or mask says where the structure is."""
        return bool(self.prompt.clicks) or self.prompt.box is not None or self.masked

    @property
    def extent(self) -> Extent | None:
        """What the prompts span; None when they do not say where the structure is."""
        if not self.is_prompted:
            return None
        places = [click.position for click in self.prompt.clicks]
        if self.prompt.box is not None:
            places += [self.prompt.box[:3], self.prompt.box[3:]]
        if self.masked:
            assert self.reference is not None
            places += [tuple(float(edge) for edge in edges) for edges in _corners(self.reference.box)]
        low, high = np.min(places, axis=0), np.max(places, axis=0)
        only_points = self.prompt.box is None and not self.masked
        return Extent(
            low=(low[2], low[1], low[0]),
            high=(high[2], high[1], high[0]),
            margin=POINT_MARGIN if only_points else BOX_MARGIN,
        )

    def in_window(self, window: Window, *, mask_size: tuple[int, ...]) -> QueryPrompt | None:
        """The prompt in a window's own voxels; None where nothing in it says where the structure is."""
        if self.masked:
            assert self.reference is not None
            mask = self.reference.cut(window)
            return replace(self.prompt, mask=mask_prompt(mask, mask_size)) if mask.any() else None
        return window.prompt(self.prompt)


def request_of_prompt(prompt: VolumePrompt, scan: VolumeScan, *, value: int, class_index: int) -> VolumeRequest:
    """The request that an entry of a prompts file makes."""
    clicks: tuple[Click, ...] = ()
    if len(prompt.points_N4):
        places = scan.to_volume(prompt.points_N4[:, :3])
        clicks = tuple(
            Click(position=(float(x), float(y), float(z)), foreground=bool(inside))
            for (x, y, z), inside in zip(places, prompt.points_N4[:, 3], strict=True)
        )
    box = None if prompt.box_6 is None else tuple(scan.boxes_to_volume(prompt.box_6).tolist())
    return VolumeRequest(value=value, prompt=QueryPrompt(clicks=clicks, box=box, class_index=class_index))


def requests_of_labels(
    labels_DHW: NDArray[Any], plan: Plan, *, kind: Literal["point", "box", "mask"], clicks: int
) -> tuple[VolumeRequest, ...]:
    """One request per class of a label map on the plan's grid, prompted as somebody who sees the map would.

    Args:
        labels_DHW: label values.
        plan: of the model.
        kind: of the first prompt; a point lies in the middle of the structure.
        clicks: in all for points, corrections for the rest.
    """
    known = set(plan.labels.values())
    found = []
    for value, box in class_boxes(labels_DHW):
        if value not in known:
            continue
        z, y, x = box
        reference = Reference(labels_DHW=labels_DHW, value=value, box=(z, y, x))
        low, high = _corners(reference.box)
        prompt = QueryPrompt()
        if kind == "box":
            prompt = QueryPrompt(box=(*low, *high))
        elif kind == "point":
            middle = central_point(reference.within(reference.box))
            assert middle is not None
            position = tuple(place + start for place, start in zip(middle.position, low, strict=True))
            prompt = QueryPrompt(clicks=(Click(position=position, foreground=True),))
        found.append(
            VolumeRequest(
                value=value,
                prompt=prompt,
                reference=reference,
                rounds=max(clicks - 1 if kind == "point" else clicks, 0),
                masked=kind == "mask",
            )
        )
    return tuple(found)


def _corners(box: Sequence[slice]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Faces (x, y, z) of a box of array slices z, y, x."""
    return tuple(float(part.start) for part in reversed(box)), tuple(float(part.stop) for part in reversed(box))
