"""Dice per instance (one class on one slice) for each way of prompting, and for an ellipse that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.nn.prompts import tight_box
from medmoe_cli.core.workflows.segmenting import Answered, Segmented


@dataclass(frozen=True, kw_only=True, slots=True)
class WayScore:
    """Mean Dice over instances for one way of prompting.

    Attributes:
        way: box, point, text or none; 'ellipse' is the baseline.
        mean_dice: over all instances.
        dice_per_class: mean over the class's instances.
        num_instances: how many there are.
    """

    way: str
    mean_dice: float
    dice_per_class: dict[str, float]
    num_instances: int


def ellipse_in(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The ellipse inscribed in a mask's tight box, (rows, cols): what a box says by itself."""
    box = tight_box(mask)
    if box is None:
        return np.zeros(mask.shape, bool)
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    across = (x + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    down = (y + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return np.asarray(across**2 + down**2 <= 1)


class InstanceTally:
    """Collects Dice per way and class over instances: the slices on which a class is present."""

    def __init__(self, plan: Plan) -> None:
        self._names = {value: name for name, value in plan.labels.items()}
        self._dice: dict[str, dict[int, list[float]]] = {}
        self.tokens: dict[str, dict[int, int]] = {}

    def listener(self, way: str, reference: NDArray[np.integer]) -> Callable[[Answered], None]:
        """Receives the answers of a way for a case with these labels."""

        def listen(answered: Answered) -> None:
            request = answered.request
            self._add(way, request.value, answered.probability > 0.5, reference[request.slice_index] == request.value)

        return listen

    def ellipses(self, reference: NDArray[np.integer]) -> None:
        """The baseline on a case."""
        for labels in reference:
            for value in np.unique(labels).tolist():
                if value:
                    mask = labels == value
                    self._add("ellipse", value, ellipse_in(mask), mask)

    def add_tokens(self, way: str, segmented: Segmented) -> None:
        """Count which tokens made a case's masks."""
        counts = self.tokens.setdefault(way, {})
        for token, count in segmented.tokens.items():
            counts[token] = counts.get(token, 0) + count

    def scores(self) -> tuple[WayScore, ...]:
        """The means of everything collected."""
        found = []
        for way, classes in self._dice.items():
            everything = [dice for values in classes.values() for dice in values]
            found.append(
                WayScore(
                    way=way,
                    mean_dice=float(np.mean(everything)),
                    dice_per_class={self._names[value]: float(np.mean(classes[value])) for value in sorted(classes)},
                    num_instances=len(everything),
                )
            )
        return tuple(found)

    def _add(self, way: str, value: int, found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> None:
        if value not in self._names or not wanted.any():
            return
        dice = 2 * float((found & wanted).sum()) / float(found.sum() + wanted.sum())
        self._dice.setdefault(way, {}).setdefault(value, []).append(dice)
