"""The data of a merge: which dataset is whose, and their windows as one source of tasks.

All datasets are prepared as the merged model prepares scans: its window, spacing and intensities, whatever the planner
would choose for them. Label values of the joined source number the tasks, a task being one class of one dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.merge_report import GENERAL, MergedData
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.concat_source import ConcatSource, SourcePart
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.splits import split
from medmoe_cli.core.data.volume_source import VolumeSource
from medmoe_cli.core.workflows.check import ensure_checked
from medmoe_cli.core.workflows.merging.options import MergeOptions, OwnedData
from medmoe_cli.core.workflows.merging.parts import METHOD, Growing, Part
from medmoe_cli.core.workflows.plan import ensure_plan
from medmoe_cli.core.workflows.preprocess import ensure_preprocessed

PLAN_PRESET = "merge-experts"
_HELD_OUT = 5  # every fifth training patient chooses tau


@dataclass(frozen=True, kw_only=True, slots=True)
class Owned:
    """A dataset and the answer of the gate that it teaches: 0 the general model, i the i-th expert."""

    dataset: str
    owner: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One class of one dataset; `value` is its label in the joined sources."""

    dataset: str
    class_name: str
    owner: int
    value: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeData:
    """Everything the gate learns from and is measured on.

    Attributes:
        tasks: by value, from 1.
        training: the gate's samples; every owner has as many.
        choosing: samples held out of the training to choose tau on; None where tau is given.
        held_out: samples of the validation cases.
        facts: per dataset, for the report.
        content: hash of all prepared cases.
    """

    tasks: tuple[Task, ...]
    training: ConcatSource
    choosing: ConcatSource | None
    held_out: ConcatSource
    facts: tuple[MergedData, ...]
    content: str


def owned_data(
    options: MergeOptions, *, general: Plan, experts: Sequence[Part], names: Sequence[str], growing: Growing | None
) -> tuple[Owned, ...]:
    """Which datasets teach the gate, and whose they are.

    Args:
        options: its `data`; () for those that the models were trained on.
        general: the general model's plan.
        experts: the new ones.
        names: of all experts, in the order of the gate's answers.
        growing: the merged model that grows; its report knows the earlier datasets.

    Raises:
        ConfigError: an owner or dataset that cannot be, or no data of the general model's tasks or of a new expert's.
    """
    homes = {expert.plan.dataset: expert.name for expert in experts}
    earlier = (
        {} if growing is None or growing.report is None else {one.dataset: one.owner for one in growing.report.data}
    )
    given = options.data or _default_data(general, experts, earlier)
    order = (GENERAL, *names)
    found: list[Owned] = []
    problems: list[MedMoEError] = []
    for one in given:
        dataset = one.dataset
        owner = one.owner or homes.get(dataset) or earlier.get(dataset) or GENERAL
        if owner not in order:
            problems.append(
                ConfigError(
                    f"unknown owner '{owner}'", where=f"--data {owner}={dataset}", why=did_you_mean(owner, order)
                )
            )
        elif dataset in {other.dataset for other in found}:
            problems.append(
                ConfigError(
                    f"dataset '{dataset}' is named twice",
                    where="--data",
                    why="its tasks have one owner",
                    fix="name it once",
                )
            )
        else:
            found.append(Owned(dataset=dataset, owner=order.index(owner)))
    raise_all(problems)
    _require_all_kinds(found, experts, order)
    return tuple(sorted(found, key=lambda one: one.owner))


def load_data(
    owned: Sequence[Owned],
    *,
    workspace: Workspace,
    plan: Plan,
    names: Sequence[str],
    fold: str,
    choose_tau: bool,
    workers: int | None,
    reporter: Reporter,
) -> MergeData:
    """Check, prepare and split the datasets.

    Args:
        owned: from `owned_data`.
        plan: the merged model's.
        names: of all experts.
        fold: of every dataset.
        choose_tau: hold training patients out of the gate's training.
        workers: processes; None chooses.

    Raises:
        ConfigError: no such fold.
        DataError: datasets that cannot be used.
    """
    order = (GENERAL, *names)
    tasks: list[Task] = []
    training, choosing, held_out = list[SourcePart](), list[SourcePart](), list[SourcePart]()
    facts, contents = [], []
    for one in owned:
        ensure_checked(workspace=workspace, data=one.dataset, workers=workers, reporter=reporter)
        dataset = open_dataset(workspace.dataset(one.dataset))
        overrides = PlanConfig(input_size=plan.input_size, spacing_mm=plan.spacing_mm, mirror="off")
        planned = ensure_plan(
            workspace=workspace,
            dataset=dataset,
            method=METHOD,
            preset=PLAN_PRESET,
            overrides=overrides,
            workers=workers,
            reporter=reporter,
        )
        own = planned.plan.model_copy(update={"channels": plan.channels, "input_size": plan.input_size})
        planned = replace(planned, plan=own)
        jsonio.write(planned.plan_file, own)
        ready = ensure_preprocessed(planned, workers=workers, reporter=reporter)
        cases = split(dataset, fold, folder=planned.folder)
        by_id = {case.id: case for case in dataset.training}
        taught, kept = _hold_out([by_id[case] for case in cases.train]) if choose_tau else (cases.train, ())
        content = value_sha256({case: record.key for case, record in ready.records.items()})
        contents.append(content)
        offset = len(tasks)
        tasks += [
            Task(dataset=dataset.name, class_name=name, owner=one.owner, value=offset + own.labels[name])
            for name in own.class_names
        ]

        def part(ids: Sequence[str]) -> SourcePart:
            source = VolumeSource(store=ready.store, records=ready.records, cases=ids, plan=own)  # noqa: B023 - called here
            # The content belongs to the name: features cached for it are those of these bytes.
            name = f"{dataset.name}@{content[:8]}"  # noqa: B023
            values = {value: offset + value for value in own.labels.values()}  # noqa: B023
            return SourcePart(name=name, source=source, owner=one.owner, values=values)  # noqa: B023

        training.append(part(taught))
        held_out.append(part(cases.validation))
        if kept:
            choosing.append(part(kept))
        facts.append(
            MergedData(
                dataset=dataset.name,
                owner=order[one.owner],
                fold=fold,
                training=len(training[-1].source),
                held_out=len(held_out[-1].source),
            )
        )
    return MergeData(
        tasks=tuple(tasks),
        training=ConcatSource(training, balanced=True),
        choosing=ConcatSource(choosing) if choosing else None,
        held_out=ConcatSource(held_out),
        facts=tuple(facts),
        content=value_sha256(sorted(contents)),
    )


def common_fold(parts: Sequence[Part], reporter: Reporter) -> str:
    """The fold the models were trained on; 0 where that is not known.

    Cases that a model trained on tell nothing about it, so models of several folds cannot be scored fairly.
    """
    folds = sorted({part.fold for part in parts if part.fold})
    if len(folds) > 1:
        reporter.warn(
            f"the models were trained on folds {', '.join(folds)}: scores on fold {folds[0]} flatter the others; "
            "train them on one fold, or read the report with that in mind"
        )
    return folds[0] if folds else "0"


def _default_data(general: Plan, experts: Sequence[Part], earlier: Mapping[str, str]) -> tuple[OwnedData, ...]:
    """What the models were trained on, by their plans' names."""
    found = [OwnedData(dataset=dataset, owner=owner) for dataset, owner in earlier.items()]
    if not earlier and general.dataset:
        found.append(OwnedData(dataset=general.dataset, owner=GENERAL))
    known = {one.dataset for one in found}
    for expert in experts:
        if expert.plan.dataset and expert.plan.dataset not in known:
            found.append(OwnedData(dataset=expert.plan.dataset, owner=expert.name))
            known.add(expert.plan.dataset)
    return tuple(found)


def _require_all_kinds(found: Sequence[Owned], experts: Sequence[Part], order: Sequence[str]) -> None:
    """A gate that never sees the general model's tasks sends everything to an expert, and the reverse."""
    present = {order[one.owner] for one in found}
    problems: list[MedMoEError] = []
    if GENERAL not in present:
        problems.append(
            ConfigError(
                "no data of the general model's own tasks",
                where="--data",
                why="a gate that sees experts' tasks alone sends everything to them, and all else is forgotten",
                fix="--data general=DATASET, beside the experts' datasets",
            )
        )
    problems += [
        ConfigError(
            f"no data of the tasks of expert '{expert.name}'",
            where="--data",
            why="the gate would never learn when to call it",
            fix=f"--data {expert.name}={expert.plan.dataset or 'DATASET'}",
        )
        for expert in experts
        if expert.name not in present
    ]
    raise_all(problems)


def _hold_out(cases: Sequence[Case]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training cases for the gate, and those of every fifth patient; one patient alone teaches."""
    patients = sorted({case.patient for case in cases})
    kept = set(patients[_HELD_OUT - 1 :: _HELD_OUT] or patients[1:2])
    return (
        tuple(case.id for case in cases if case.patient not in kept),
        tuple(case.id for case in cases if case.patient in kept),
    )
