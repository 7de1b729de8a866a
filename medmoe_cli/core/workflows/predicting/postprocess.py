"""Rules for a predicted label map: learned from the training labels, kept when the validation masks agree, applied.

The one rule there is: a class that is one piece in (nearly) every training label keeps its largest component only.
Rules apply to what a model finds by itself or by a class's name; a mask that a point, box or mask asked for is the
user's own choice and stays whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing, PostRule
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.load import number_labels
from medmoe_cli.core.imaging.components import component_sizes, keep_largest
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.workflows.predicting.segmented import Segmented

_LEAST_SHARE = 0.95
_SPECK = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class OnePiece:
    """A class that is one component in nearly every training label.

    Attributes:
        label: its name.
        value: its number in the plan.
        num_single: training labels in which it is one component, specks not counted.
        num_labels: training labels that contain it.
    """

    label: str
    value: int
    num_single: int
    num_labels: int


def apply_rules(segmented: Segmented, rules: Postprocessing, plan: Plan) -> Segmented:
    """The result after the rules; classes that were prompted with a point, box or mask are left alone."""
    values = [plan.labels[rule.label] for rule in rules.rules if rule.label in plan.labels]
    wanted = [value for value in values if value not in segmented.prompted]
    if not wanted:
        return segmented
    labels = segmented.labels_SHW.copy()
    removed = [keep_largest(labels, value) for value in wanted]
    return replace(segmented, labels_SHW=labels) if any(removed) else segmented


def common_rules(all_rules: Sequence[Postprocessing]) -> Postprocessing:
    """The rules that every member of an ensemble has learned, with the first one's reasons."""
    others = [{(rule.label, rule.keep) for rule in rules.rules} for rules in all_rules[1:]]
    kept = tuple(rule for rule in all_rules[0].rules if all((rule.label, rule.keep) in known for known in others))
    return Postprocessing(rules=kept)


def one_piece_classes(cases: Sequence[Case], plan: Plan, reporter: Reporter) -> tuple[OnePiece, ...]:
    """The classes that the rule may be for; none for pictures, and where nothing was trained on.

    A class counts when at least 95 % of the training labels that contain it hold one component of it, components
    below 1 % of its voxels not counted.
    """
    single = dict.fromkeys(plan.labels.values(), 0)
    present = dict.fromkeys(plan.labels.values(), 0)
    labelled = [case for case in cases if case.label is not None and _may_be_volume(case, plan)]
    reporter.start("look for classes of one piece", len(labelled))
    for case in labelled:
        assert case.label is not None
        read = read_labels(case.label).data
        if min(read.shape) == 1:
            reporter.finish()
            return ()
        labels = number_labels(read, plan.reference_values(case.id), case.label)
        for value in plan.labels.values():
            sizes = component_sizes(labels == value)
            if len(sizes):
                present[value] += 1
                single[value] += int((sizes >= _SPECK * sizes.sum()).sum() == 1)
        reporter.advance(case.id)
    reporter.finish()
    return tuple(
        OnePiece(label=name, value=value, num_single=single[value], num_labels=present[value])
        for name, value in plan.labels.items()
        if present[value] and single[value] >= _LEAST_SHARE * present[value]
    )


def _may_be_volume(case: Case, plan: Plan) -> bool:
    """False for the pictures among a collection's members."""
    return not plan.members or plan.member(case.id.partition("/")[0]).dimensionality == 3


class RuleTrial:
    """Tries the rule on validation masks: it stays where it does not lower the class's mean Dice.

    A class that the model finds in no validation case says nothing about the rule, and gets none.

    Args:
        candidates: what the training labels suggest.
    """

    def __init__(self, candidates: Sequence[OnePiece]) -> None:
        self.candidates = tuple(candidates)
        self._before: dict[str, list[float]] = {}
        self._after: dict[str, list[float]] = {}
        self._changed: dict[str, set[str]] = {}

    def add(
        self,
        case: str,
        labels_SHW: NDArray[np.integer],
        reference_SHW: NDArray[np.integer],
        *,
        known: Collection[int] | None = None,
    ) -> None:
        """One validation case as it was predicted, and its reference; a class in neither is not counted.

        Nor is one that is not among the `known` ones, which the reference labels; None for all.
        """
        for candidate in self.candidates:
            if known is not None and candidate.value not in known:
                continue
            wanted = reference_SHW == candidate.value
            found = labels_SHW == candidate.value
            if not found.any() and not wanted.any():
                continue
            kept = found.astype(np.uint8)
            if keep_largest(kept, 1):
                self._changed.setdefault(candidate.label, set()).add(case)
            self._before.setdefault(candidate.label, []).append(_dice(found, wanted))
            self._after.setdefault(candidate.label, []).append(_dice(kept > 0, wanted))

    def rules(self) -> Postprocessing:
        """What stood the trial."""
        kept = []
        for candidate in self.candidates:
            before, after = self._before.get(candidate.label), self._after.get(candidate.label)
            if not before or not after or np.mean(before) == 0 or np.mean(after) < np.mean(before):
                continue
            cases = "1 case" if len(before) == 1 else f"{len(before)} cases"
            kept.append(
                PostRule(
                    label=candidate.label,
                    keep="largest",
                    reason=(
                        f"one component in {candidate.num_single} of {candidate.num_labels} training labels; "
                        f"validation Dice {np.mean(before):.4f} without, {np.mean(after):.4f} with the rule "
                        f"({cases})"
                    ),
                )
            )
        return Postprocessing(rules=tuple(kept))

    def changed(self, rules: Postprocessing) -> frozenset[str]:
        """The cases whose masks the rules change."""
        return frozenset(case for rule in rules.rules for case in self._changed.get(rule.label, ()))


def _dice(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return 2 * float((found & wanted).sum()) / float(found.sum() + wanted.sum())
