"""Dice per instance for each way of prompting, and for an ellipse that needs no network.

An instance is one class on one slice; for 3D models one class of one scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.imaging.vote import class_boxes
from medmoe_cli.core.workflows.predicting.requests import Request
from medmoe_cli.core.workflows.predicting.segmented import Answered, Segmented


@dataclass(frozen=True, kw_only=True, slots=True)
class WayScore:
    """Mean Dice over instances for one way of prompting.

    Attributes:
        way: box, point, text or none; 'ellipse' ('ellipsoid' in 3D) is the baseline.
        mean_dice: over all instances.
        dice_per_class: mean over the class's instances.
        num_instances: how many there are.
    """

    way: str
    mean_dice: float
    dice_per_class: dict[str, float]
    num_instances: int


def ellipse_in(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The ellipse (rows, cols) or ellipsoid (slices, rows, cols) inscribed in a box: what a box says by itself."""
    grid = np.ogrid[tuple(slice(0, length) for length in shape)]
    away = [((axis + 0.5 - length / 2) / (length / 2)) ** 2 for axis, length in zip(grid, shape, strict=True)]
    return np.asarray(sum(away) <= 1)


@dataclass(slots=True)
class _Overlap:
    """Voxels of one instance: in the reference, in the masks so far, and in both."""

    wanted: int
    claimed: int = 0
    right: int = 0

    def add(self, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        self.claimed += int(found.sum())
        self.right += int((found & truth).sum())

    @property
    def dice(self) -> float:
        return 2 * self.right / (self.claimed + self.wanted)


class InstanceTally:
    """Collects Dice per way and class over instances: slices on which a class is present, or volumes of a 3D model."""

    def __init__(self, plan: Plan) -> None:
        self._names = {value: name for name, value in plan.labels.items()}
        self._volumes = plan.dims == 3
        self._found: dict[str, dict[int, list[_Overlap]]] = {}
        self.tokens: dict[str, dict[int, int]] = {}

    def listener(
        self, way: str, reference_SHW: NDArray[np.integer], *, round_number: int | None = None
    ) -> Callable[[Answered], None]:
        """Receives the answers of a way for a case with these labels; with a round those after so many clicks alone."""
        seen: dict[tuple[int | None, int], _Overlap | None] = {}

        def listen(answered: Answered) -> None:
            if round_number is not None and answered.round != round_number:
                return
            request = answered.request
            instance = (request.slice_index if isinstance(request, Request) else None, request.value)
            if instance not in seen:
                whole = reference_SHW if instance[0] is None else reference_SHW[instance[0]]
                seen[instance] = self._new(way, request.value, wanted=int((whole == request.value).sum()))
            overlap = seen[instance]
            if overlap is not None:
                overlap.add(answered.probability > 0.5, reference_SHW[answered.place] == request.value)

        return listen

    def ellipses(self, reference_SHW: NDArray[np.integer]) -> None:
        """The baseline on a case: an ellipse on each slice, an ellipsoid in the volume for 3D models."""
        name = "ellipsoid" if self._volumes else "ellipse"
        for labels in [reference_SHW] if self._volumes else reference_SHW:
            for value, box in class_boxes(labels):
                truth = labels[box] == value
                overlap = self._new(name, value, wanted=int(truth.sum()))
                if overlap is not None:
                    overlap.add(ellipse_in(truth.shape), truth)

    def add_tokens(self, way: str, segmented: Segmented) -> None:
        """Count which tokens made a case's masks."""
        counts = self.tokens.setdefault(way, {})
        for token, count in segmented.tokens.items():
            counts[token] = counts.get(token, 0) + count

    def scores(self) -> tuple[WayScore, ...]:
        """The means of everything collected."""
        found = []
        for way, classes in self._found.items():
            everything = [overlap.dice for overlaps in classes.values() for overlap in overlaps]
            found.append(
                WayScore(
                    way=way,
                    mean_dice=float(np.mean(everything)),
                    dice_per_class={
                        self._names[value]: float(np.mean([overlap.dice for overlap in classes[value]]))
                        for value in sorted(classes)
                    },
                    num_instances=len(everything),
                )
            )
        return tuple(found)

    def _new(self, way: str, value: int, *, wanted: int) -> _Overlap | None:
        """A place to count one instance in; None for what is not there, or no class of the model's."""
        if value not in self._names or not wanted:
            return None
        overlap = _Overlap(wanted=wanted)
        self._found.setdefault(way, {}).setdefault(value, []).append(overlap)
        return overlap
