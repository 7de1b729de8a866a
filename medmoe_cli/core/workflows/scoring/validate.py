"""A run's last word: its validation cases at native resolution, in the scans' own geometry.

`validation/masks` are written as predictions are, `validation/summary.json` is `evaluate`'s, and
`validation/previews` has one picture per case. For prompted methods `validation/prompts.json` compares the prompt
kinds on the instances (one class on one slice, for 3D methods in one scan) with an ellipse drawn into each instance's
box, which needs no network. 3D methods are also clicked as often as their training clicked.
`validation/routing.json` counts how often each expert was used for the masks. `postprocessing.json`, beside
`validation`, holds the rules that the training labels suggest and these cases confirm; the masks that a model makes
by itself or by a class's name are written after them.
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
from medmoe_cli.core.base.progress import Reporter, Silent
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.imaging.write import label_ending, write_labels
from medmoe_cli.core.metrics.summary import EvaluationSummary
from medmoe_cli.core.reporting.overlay import draw_preview
from medmoe_cli.core.workflows.evaluate import run_evaluate
from medmoe_cli.core.workflows.model_files.run_folder import POSTPROCESSING_NAME
from medmoe_cli.core.workflows.predicting.case_output import file_labels, preview_rows
from medmoe_cli.core.workflows.predicting.postprocess import RuleTrial, apply_rules, one_piece_classes
from medmoe_cli.core.workflows.predicting.request_choice import value_for_nothing
from medmoe_cli.core.workflows.predicting.requests import (
    FromClassNames,
    FromMasks,
    FromNothing,
    Requests,
    reference_labels,
    reference_slices,
)
from medmoe_cli.core.workflows.predicting.scans import ScanCase, read_scan
from medmoe_cli.core.workflows.predicting.segmented import Answered, Segmented
from medmoe_cli.core.workflows.predicting.segmenting import segment
from medmoe_cli.core.workflows.predicting.volume_requests import requests_of_labels
from medmoe_cli.core.workflows.scoring.instance_tally import InstanceTally, WayScore
from medmoe_cli.core.workflows.scoring.member_scores import MemberScore, evaluate_members
from medmoe_cli.core.workflows.scoring.routing_tally import RoutingTally

Way = Literal["none", "box", "point", "text"]
_NAMES: dict[Way, str] = {"none": "no prompts", "box": "box prompts", "point": "one point", "text": "class names"}
_UNPROMPTED: tuple[Way, ...] = ("none", "text")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberValidation:
    """A member of a collection: its mean Dice over its own classes and cases, and its instances by way."""

    score: MemberScore
    ways: tuple[WayScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What validation found.

    Attributes:
        masks_prompted_by: the way the masks and the summary were made.
        mean_dice: of the summary, over classes and cases.
        dice_per_class: of the summary, by class name; None where no case has the class.
        ways: scores per way on instances, the ellipse among them; none for automatic methods.
        tokens: per way, how often each routed token made the mask.
        rules: the post-processing that was learned, with its reasons.
        members: of a collection: each one's own scores, and on instances those of each way.
    """

    masks_prompted_by: str
    mean_dice: float | None
    dice_per_class: dict[str, float | None]
    ways: tuple[WayScore, ...]
    tokens: dict[str, dict[int, int]]
    rules: Postprocessing
    members: tuple[MemberValidation, ...] = ()


def run_validate(
    *,
    cases: Sequence[Case],
    training: Sequence[Case],
    dataset: Dataset,
    plan: Plan,
    inference: Inference,
    predict: PredictConfig,
    folder: Path,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Predict and score labelled cases, and learn post-processing.

    Args:
        cases: the fold's validation cases.
        training: the cases whose labels suggest rules.
        dataset: for its labels and label names.
        plan: the run's plan.
        inference: the trained model.
        predict: its threshold, and whether rules are applied.
        folder: `validation/` of the run.
        reporter: receives progress.
        check: called between slices; raises to interrupt.
    """
    return _Validation(plan, inference, predict, folder, reporter, check).run(cases, training, dataset)


class _Validation:
    def __init__(
        self,
        plan: Plan,
        inference: Inference,
        predict: PredictConfig,
        folder: Path,
        reporter: Reporter,
        check: Callable[[], None],
    ) -> None:
        self.plan, self.inference, self.predict = plan, inference, predict
        self.folder, self.reporter, self.check = folder, reporter, check
        self.ways = _ways(inference, plan)
        # Slices are many, and each would be clicked: 2D methods are compared by their first prompts alone.
        self.clicks = max(stage.correction_rounds for stage in inference.segmenter.stages()) if plan.dims == 3 else 0
        self.tally = InstanceTally(plan)
        self.tallies = {member.dataset: InstanceTally(plan) for member in plan.members}
        self.routing = RoutingTally()
        self.names = {value: name for name, value in plan.labels.items()}

    def run(self, cases: Sequence[Case], training: Sequence[Case], dataset: Dataset) -> Validation:
        unprompted = next((way for way in self.ways if way in _UNPROMPTED), None)
        suggested = one_piece_classes(training, self.plan, self.reporter) if unprompted else ()
        trial = RuleTrial(suggested)
        self.reporter.start("validate", len(cases))
        for case in cases:
            self._case(case, trial, unprompted)
            self.reporter.advance(case.id)
        self.reporter.finish()
        rules = trial.rules()
        if self.predict.postprocess and self.ways[0] == unprompted:
            changed = trial.changed(rules)
            for case in cases:
                if case.id in changed:
                    self._apply(case, rules)
        jsonio.write(self.folder.parent / POSTPROCESSING_NAME, rules)
        used = self.routing.result()
        if used.places:
            jsonio.write(self.folder / "routing.json", used)
        return self._conclude(dataset, cases, rules)

    def _case(self, case: Case, trial: RuleTrial, unprompted: Way | None) -> None:
        """Predict a case in every way; the first one's mask is written."""
        prepared, reference = self._read(case)
        tallies = [self.tally, *(tally for name, tally in self.tallies.items() if case.id.startswith(f"{name}/"))]
        first: Segmented | None = None
        for way in self.ways:
            clicks = self.clicks if way == "point" else 0
            segmented = segment(
                prepared,
                _requests(way, case, reference, prepared, self.inference, self.plan, clicks=clicks),
                self.inference,
                threshold=self.predict.threshold,
                listen=_all(
                    [tally.listener(f"{way} + {clicks} clicks" if clicks else way, reference) for tally in tallies]
                ),
                each_round=_all([tally.listener(way, reference, round_number=0) for tally in tallies])
                if clicks
                else None,
                watch=self._watch(case.id) if first is None else None,
                check=self.check,
            )
            self.tally.add_tokens(way, segmented)
            if way == unprompted:
                trial.add(case.id, segmented.labels_SHW, reference, known=self.plan.known_values(case.id))
            first = first or segmented
        assert first is not None
        if not self.inference.automatic:
            for tally in tallies:
                tally.ellipses(reference)
        self._write(case, prepared, first, reference)

    def _apply(self, case: Case, rules: Postprocessing) -> None:
        """Write a case again after the rules."""
        self.check()
        prepared, reference = self._read(case)
        labels = reference_slices(self._mask(case, prepared), prepared)
        raw = Segmented(labels_SHW=np.array(labels, labels.dtype), prompts={}, num_requests=0, tokens={})
        self._write(case, prepared, apply_rules(raw, rules, self.plan), reference)

    def _read(self, case: Case) -> tuple[Prepared | VolumeScan, NDArray[np.integer]]:
        self.check()
        if case.label is None:
            raise DataError("validation case without a label", where=case.id, fix="medmoe check DATA")
        plan = self.plan.for_case(case.id)
        image = read_scan(ScanCase(id=case.id, files=case.images), num_channels=len(plan.channels))
        prepared = prepare_scan(image, plan)
        numbers = self.plan.reference_values(case.id)
        return prepared, prepared.label_slices(reference_labels(case.label, prepared, numbers))

    def _mask(self, case: Case, prepared: SlicedScan) -> Path:
        return self.folder / "masks" / f"{case.id}{label_ending(prepared.image)}"

    def _write(self, case: Case, prepared: SlicedScan, segmented: Segmented, reference: NDArray[np.integer]) -> None:
        labels = file_labels(prepared, segmented)
        write_labels(self._mask(case, prepared), labels, prepared.image, label_names=self.plan.file_names)
        rows = preview_rows(prepared, segmented, reference)
        title = f"{case.id}, {_NAMES[self.ways[0]]}"
        draw_preview(self.folder / "previews" / f"{case.id}.png", rows, names=self.names, title=title)

    def _watch(self, case: str) -> Callable[[list[int], Answer], None]:
        def watch(values: list[int], answer: Answer) -> None:
            self.routing.add(case, [self.names.get(value) for value in values], answer.routing)

        return watch

    def _conclude(self, dataset: Dataset, cases: Sequence[Case], rules: Postprocessing) -> Validation:
        """Score the masks."""
        quiet = Silent()  # what it would warn of, cases without a prediction, are the other folds'
        scores: tuple[MemberScore, ...] = ()
        if dataset.members:
            summary, scores = evaluate_members(
                dataset=dataset, cases=cases, plan=self.plan, folder=self.folder, reporter=quiet
            )
        else:
            summary = run_evaluate(
                predictions=self.folder / "masks",
                references=dataset.root / "labelsTr",
                output=self.folder / "summary.json",
                dataset=dataset.root,
                ignore_missing=True,
                reporter=quiet,
            )
        of_members = {name: () if self.inference.automatic else tally.scores() for name, tally in self.tallies.items()}
        result = Validation(
            masks_prompted_by=self.ways[0],
            mean_dice=summary.aggregate.overall["Dice"].mean,
            dice_per_class=_dice_per_class(summary),
            ways=() if self.inference.automatic else self.tally.scores(),
            tokens=self.tally.tokens,
            rules=rules,
            members=tuple(MemberValidation(score=score, ways=of_members[score.dataset]) for score in scores),
        )
        if result.ways:
            jsonio.write(self.folder / "prompts.json", result)
        return result


def _dice_per_class(summary: EvaluationSummary) -> dict[str, float | None]:
    found = {}
    for one in summary.aggregate.classes:
        dice = one.statistics["Dice"]
        found[one.scored.name] = dice.mean if dice.n_used else None
    return found


def _ways(inference: Inference, plan: Plan) -> tuple[Way, ...]:
    """The ways this model can be asked, the one that makes the masks first: prompt-free where it is made for it."""
    kinds = inference.segmenter.prompt_kinds
    order: tuple[Way, ...] = ("none", "box", "point", "text") if plan.binary else ("box", "none", "point", "text")
    return tuple(way for way in order if way in kinds)


def _requests(
    way: Way,
    case: Case,
    reference: NDArray[np.integer],
    prepared: Prepared | VolumeScan,
    inference: Inference,
    plan: Plan,
    *,
    clicks: int,
) -> Requests:
    if way == "none":
        value = value_for_nothing(plan, automatic=inference.automatic)
        return FromNothing(value=value).requests_of(case.id, prepared)
    if way == "text":
        promptable = inference.segmenter.promptable_classes()
        known = plan.known_values(case.id)
        promptable = tuple(
            name
            for name in plan.class_names
            if plan.labels[name] in known and (promptable is None or name in promptable)
        )
        return FromClassNames(plan, (), promptable=promptable).requests_of(case.id, prepared)
    if isinstance(prepared, VolumeScan):
        labels = prepared.label_volume(prepared.to_file_grid(reference))
        return requests_of_labels(labels, plan, kind=way, clicks=clicks + (way == "point"))
    return FromMasks.simulated(reference, prepared, plan, kind=way, clicks=0, mask_size=inference.segmenter.mask_size)


def _all(listeners: Sequence[Callable[[Answered], None]]) -> Callable[[Answered], None]:
    """Tells each of them."""

    def tell(answered: Answered) -> None:
        for listener in listeners:
            listener(answered)

    return tell
