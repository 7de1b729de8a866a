"""A run's last word: its validation cases at native resolution, in the scans' own geometry.

`validation/masks` are written as predictions are, `validation/summary.json` is `evaluate`'s, `validation/previews` has
one picture per case, and `validation/prompts.json` compares the prompt kinds on the instances (one class on one slice)
with an ellipse drawn into each instance's box, which needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.prepare import Prepared, prepare
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.imaging.write import label_ending, write_labels
from medmoe_cli.core.nn.prompts import tight_box
from medmoe_cli.core.reporting.overlay import draw_preview
from medmoe_cli.core.workflows.case_output import file_labels, preview_rows
from medmoe_cli.core.workflows.evaluate import run_evaluate
from medmoe_cli.core.workflows.requests import FromClassNames, FromMasks, FromNothing, Request, reference_slices
from medmoe_cli.core.workflows.scans import ScanCase, read_scan
from medmoe_cli.core.workflows.segmenting import Answered, Segmented, segment

Way = Literal["none", "box", "point", "text"]
_NAMES: dict[Way, str] = {"none": "no prompts", "box": "box prompts", "point": "one point", "text": "class names"}


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What validation found.

    Attributes:
        masks_prompted_by: the way the masks and the summary were made.
        mean_dice: of the summary, over classes and cases.
        ways: scores per way on instances, the ellipse among them.
        tokens: per way, how often each routed token made the mask.
    """

    masks_prompted_by: str
    mean_dice: float | None
    ways: tuple[WayScore, ...]
    tokens: dict[str, dict[int, int]]


def run_validate(
    *,
    cases: Sequence[Case],
    dataset_root: Path,
    plan: Plan,
    inference: Inference,
    threshold: float,
    folder: Path,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Predict and score labelled cases.

    Args:
        cases: the fold's validation cases.
        dataset_root: the dataset's folder, for its labels and label names.
        plan: the run's plan.
        inference: the trained model.
        threshold: of the probabilities.
        folder: `validation/` of the run.
        reporter: receives progress.
        check: called between slices; raises to interrupt.
    """
    ways = _ways(inference, plan)
    tally = _Tally(plan)
    reporter.start("validate", len(cases))
    for case in cases:
        check()
        if case.label is None:
            raise DataError("validation case without a label", where=case.id, fix="medmoe check DATA")
        image = read_scan(ScanCase(id=case.id, files=case.images), num_channels=len(plan.channels))
        prepared = prepare(image, plan)
        reference = reference_slices(case.label, prepared)
        first: Segmented | None = None
        for way in ways:
            requests = _requests(way, reference, prepared, inference, plan)
            segmented = segment(
                prepared, requests, inference, threshold=threshold, listen=tally.listener(way, reference), check=check
            )
            tally.add_tokens(way, segmented)
            first = first or segmented
        tally.ellipses(reference)
        assert first is not None
        mask = folder / "masks" / f"{case.id}{label_ending(image)}"
        write_labels(mask, file_labels(prepared, first), image, label_names=plan.file_names)
        names = {value: name for name, value in plan.labels.items()}
        rows = preview_rows(prepared, first, reference)
        draw_preview(folder / "previews" / f"{case.id}.png", rows, names=names, title=f"{case.id}, {_NAMES[ways[0]]}")
        reporter.advance(case.id)
    reporter.finish()
    summary = run_evaluate(
        predictions=folder / "masks",
        references=dataset_root / "labelsTr",
        output=folder / "summary.json",
        dataset=dataset_root,
        ignore_missing=True,
        reporter=_Quiet(reporter),
    )
    result = Validation(
        masks_prompted_by=ways[0],
        mean_dice=summary.aggregate.overall["Dice"].mean,
        ways=tally.scores(),
        tokens=tally.tokens,
    )
    jsonio.write(folder / "prompts.json", result)
    return result


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


def _ways(inference: Inference, plan: Plan) -> tuple[Way, ...]:
    """The ways this model can be asked, the one that makes the masks first: prompt-free where it is made for it."""
    kinds = inference.segmenter.prompt_kinds
    order: tuple[Way, ...] = ("none", "box", "point", "text") if plan.binary else ("box", "none", "point", "text")
    return tuple(way for way in order if way in kinds)


def _requests(
    way: Way, reference: NDArray[np.integer], prepared: Prepared, inference: Inference, plan: Plan
) -> tuple[Request, ...]:
    if way == "none":
        return FromNothing(value=next(iter(plan.labels.values())) if plan.binary else 0).requests("", prepared)
    if way == "text":
        return FromClassNames(plan, ()).requests("", prepared)
    return FromMasks.simulated(reference, prepared, plan, kind=way, clicks=0, mask_size=inference.segmenter.mask_size)


class _Tally:
    """Collects Dice per way and class over instances: the slices on which a class is present."""

    def __init__(self, plan: Plan) -> None:
        self._names = {value: name for name, value in plan.labels.items()}
        self._dice: dict[str, dict[int, list[float]]] = {}
        self.tokens: dict[str, dict[int, int]] = {}

    def listener(self, way: str, reference: NDArray[np.integer]) -> Callable[[Answered], None]:
        def listen(answered: Answered) -> None:
            request = answered.request
            self._add(way, request.value, answered.probability > 0.5, reference[request.slice_index] == request.value)

        return listen

    def ellipses(self, reference: NDArray[np.integer]) -> None:
        for labels in reference:
            for value in np.unique(labels).tolist():
                if value:
                    mask = labels == value
                    self._add("ellipse", value, ellipse_in(mask), mask)

    def add_tokens(self, way: str, segmented: Segmented) -> None:
        counts = self.tokens.setdefault(way, {})
        for token, count in segmented.tokens.items():
            counts[token] = counts.get(token, 0) + count

    def scores(self) -> tuple[WayScore, ...]:
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


class _Quiet:
    """Passes warnings on and keeps the evaluation's own progress to itself."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def start(self, task: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        """Ignore."""

    def update(self, detail: str) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def info(self, message: str) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Ignore: the cases without a prediction are the other folds'."""
