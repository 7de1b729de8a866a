"""What a prediction says of each thing asked for by name: how likely it is there, and whether it got a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.workflows.predicting.concepts import Asked
from medmoe_cli.core.workflows.predicting.segmented import Segmented

_LISTED = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One thing in one scan.

    Attributes:
        presence: the highest on any slice.
        mask: 'absent' where it is empty.
        trained: the model was trained on it.
    """

    presence: float
    mask: Literal["found", "absent"]
    trained: bool


def found_by_name(segmented: Segmented, labels: NDArray[np.integer], plan: Plan, asked: Asked) -> Mapping[str, Found]:
    """By name, what was asked for by name; empty where the models say nothing of presence.

    Args:
        segmented: of the scan.
        labels: the finished mask, in the dataset's own values.
        plan: with labels for everything that was asked.
        asked: what no training named.
    """
    new = {one.name for one in asked.new}
    there = set(np.unique(labels).tolist())
    files = plan.file_names
    return {
        name: Found(
            presence=round(segmented.presence[value], 4),
            mask="found" if files[name] in there else "absent",
            trained=name not in new,
        )
        for name, value in plan.labels.items()
        if value in segmented.presence
    }


def absent_words(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What is not there, in a few words for the log; '' where everything is."""
    names = [name for name, one in found.items() if one["mask"] == "absent"]
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"absent: {', '.join(names[:_LISTED])}{more}"
