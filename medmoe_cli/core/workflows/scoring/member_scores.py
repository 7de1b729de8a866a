"""The validation of a collection: each member by its own label files and classes, and all of them in one summary.

A class that a member does not label is neither right nor wrong there: what is predicted of it becomes background, and
nothing is counted (`presence` says 'unknown').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.plan import MemberPlan, Plan
from medmoe_cli.core.data.dataset import Case, Dataset, member_of_case
from medmoe_cli.core.metrics.aggregate import aggregate
from medmoe_cli.core.metrics.classes import ScoredClass
from medmoe_cli.core.metrics.overlap import Counts
from medmoe_cli.core.metrics.policy import Presence
from medmoe_cli.core.metrics.scores import ClassScores, UnitScores
from medmoe_cli.core.metrics.summary import EvaluationSummary
from medmoe_cli.core.workflows.evaluate import run_evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberScore:
    """A member's part of a validation: the mean Dice over its own classes and cases."""

    dataset: str
    modality: str
    num_cases: int
    mean_dice: float | None


def evaluate_members(
    *, dataset: Dataset, cases: Sequence[Case], plan: Plan, folder: Path, reporter: Reporter
) -> tuple[EvaluationSummary, tuple[MemberScore, ...]]:
    """Score `folder`/masks/MEMBER and write `folder`/members/MEMBER/summary.json and `folder`/summary.json.

    Args:
        dataset: the collection.
        cases: those that were predicted.
        plan: the collection's.
        folder: `validation/` of the run.
        reporter: receives progress.

    Raises:
        DataError, GeometryError: as `run_evaluate`.
    """
    found: dict[str, EvaluationSummary] = {}
    for member in dataset.members:
        own = plan.member(member.name)
        if not any(member_of_case(case.id)[0] == member.name for case in cases):
            continue
        found[member.name] = run_evaluate(
            predictions=folder / "masks" / member.name,
            references=member.dataset.root / "labelsTr",
            output=folder / "members" / member.name / "summary.json",
            classes=_classes(own),
            renumber=_to_member(own, plan),
            ignore_missing=True,
            reporter=reporter,
        )
    summary = _joined(found, plan, patients={case.id: case.patient for case in cases})
    jsonio.write(folder / "summary.json", summary.to_json())
    return summary, tuple(_score(plan.member(name), one) for name, one in found.items())


def _classes(own: MemberPlan) -> tuple[ScoredClass, ...]:
    """The collection's classes that the member labels, by the values in its own files."""
    values: dict[str, list[int]] = {}
    for name, common in own.classes.items():
        values.setdefault(common, []).append(own.plan.file_names[name])
    return tuple(ScoredClass(name=common, values=tuple(sorted(numbers))) for common, numbers in values.items())


def _to_member(own: MemberPlan, plan: Plan) -> dict[int, int]:
    """The values of predicted masks to those of the member's files; 0 for what it does not label."""
    first = {scored.name: scored.values[0] for scored in _classes(own)}
    return {value: first.get(name, 0) for name, value in plan.file_names.items()}


def _joined(found: dict[str, EvaluationSummary], plan: Plan, *, patients: dict[str, str]) -> EvaluationSummary:
    labelled = {scored.name for one in found.values() for scored in one.classes}
    classes = tuple(
        ScoredClass(name=name, values=(value,)) for name, value in plan.file_names.items() if name in labelled
    )
    first = next(iter(found.values()))
    units = tuple(_renamed(unit, one, member, classes) for member, one in found.items() for unit in one.units)
    return replace(
        first,
        classes=classes,
        cases=tuple(
            replace(case, case_id=f"{member}/{case.case_id}") for member, one in found.items() for case in one.cases
        ),
        units=units,
        aggregate=aggregate(units, classes, first.convention, patients=patients, seed=first.seed),
    )


def _renamed(unit: UnitScores, own: EvaluationSummary, member: str, classes: tuple[ScoredClass, ...]) -> UnitScores:
    """A unit in the collection's names; classes that the member does not label are unknown."""
    by_name = {scored.name: scores for scored, scores in zip(own.classes, unit.classes, strict=True)}
    nothing = {column.name: float("nan") for column in own.convention.columns}
    return replace(
        unit,
        case_id=f"{member}/{unit.case_id}",
        classes=tuple(
            replace(by_name[scored.name], key=scored.key)
            if scored.name in by_name
            else ClassScores(
                key=scored.key, counts=Counts(tp=0, fp=0, fn=0, tn=0), presence=Presence.UNKNOWN, values=nothing
            )
            for scored in classes
        ),
    )


def _score(own: MemberPlan, summary: EvaluationSummary) -> MemberScore:
    dice = summary.aggregate.overall["Dice"]
    return MemberScore(
        dataset=own.dataset,
        modality=own.modality,
        num_cases=len(summary.cases),
        mean_dice=dice.mean if dice.n_used else None,
    )
