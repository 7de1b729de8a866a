"""Prompts of a volume as marks on the scan's own slices, for previews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.nn.prompts import Click, QueryPrompt


def marks_by_slice(prompts: Sequence[QueryPrompt], scan: VolumeScan) -> dict[int, list[QueryPrompt]]:
    """The prompts on each slice, in the slice's own pixels: a point on its slice, a box on all it goes through."""
    marks: dict[int, list[QueryPrompt]] = {}
    for prompt in prompts:
        clicks: dict[int, list[Click]] = {}
        if prompt.clicks:
            for click, (along, x, y) in zip(
                prompt.clicks, scan.on_slices(np.array([click.position for click in prompt.clicks])), strict=True
            ):
                clicks.setdefault(_slice(along, scan), []).append(
                    Click(position=(float(x), float(y)), foreground=click.foreground)
                )
        box, shown = None, range(0)
        if prompt.box is not None:
            low, high = scan.on_slices(np.array(prompt.box).reshape(2, 3))
            box = (float(low[1]), float(low[2]), float(high[1]), float(high[2]))
            shown = range(_slice(low[0], scan), _slice(np.nextafter(high[0], -np.inf), scan) + 1)
        for index in sorted({*clicks, *shown}):
            marks.setdefault(index, []).append(
                QueryPrompt(clicks=tuple(clicks.get(index, ())), box=box if index in shown else None)
            )
    return marks


def _slice(along: float, scan: VolumeScan) -> int:
    return int(np.clip(np.floor(along), 0, scan.num_slices - 1))
