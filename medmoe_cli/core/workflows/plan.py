"""plan: measure a dataset once and decide everything that follows from it, with a reason for each value.

Under WORKSPACE/preprocessed/NAME/ it keeps `fingerprint.json`, `inputs.json` (what the fingerprint was computed from),
`splits_final.json`, and `plans/PRESET.json`, one per preset. A fingerprint is measured again when the input files
change; a plan is decided anew every time, which takes no time. The fingerprints of a collection's members lie where
theirs do when they are planned by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.fingerprint import Fingerprint
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.collection_plan import joint_fingerprint, make_collection_plan
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.fingerprint import measure
from medmoe_cli.core.data.inputs import FILE_NAME as INPUTS_NAME
from medmoe_cli.core.data.inputs import Inputs, list_inputs, read_inputs
from medmoe_cli.core.data.planner import make_plan
from medmoe_cli.core.data.splits import all_splits, unassigned
from medmoe_cli.core.data.stored import read_stored
from medmoe_cli.core.models.registry import card as find_card
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.workflows.configure import choose_preset, configure
from medmoe_cli.core.workflows.device_memory import device_memory
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.named_dataset import named_dataset

FINGERPRINT_NAME = "fingerprint.json"
PLANS_FOLDER = "plans"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A dataset with its plan and what the plan rests on.

    Attributes:
        dataset: as opened.
        plan: the plan.
        fingerprint: the measurements.
        inputs: the files they were taken from.
        folder: the dataset's folder under WORKSPACE/preprocessed.
        measured: False when an earlier fingerprint was still true.
        members: of a collection, each with its own part of the plan.
    """

    dataset: Dataset
    plan: Plan
    fingerprint: Fingerprint
    inputs: Inputs
    folder: Path
    measured: bool
    members: tuple[Planned, ...] = ()

    @property
    def plan_file(self) -> Path:
        """Where the plan lies."""
        return self.folder / PLANS_FOLDER / f"{self.plan.preset}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedMember:
    """A member's own numbers: cases, patients, classes of the collection that it labels, and its fingerprint's file."""

    dataset: str
    num_cases: int
    num_patients: int
    num_classes: int
    fingerprint_file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanResult:
    """What `plan` did.

    Attributes:
        plan: the plan, with its reasons.
        plan_file, fingerprint_file: where they lie.
        measured: False when an earlier fingerprint was still true.
        num_cases, num_patients, num_folds: of the training cases.
        preset_why: why this preset; '' when it was named.
        warnings: what deserves a look.
        members: of a collection.
        method_reasons: what the method decides itself, and why, by what it is about.
    """

    plan: Plan
    plan_file: Path
    fingerprint_file: Path
    measured: bool
    num_cases: int
    num_patients: int
    num_folds: int
    preset_why: str
    warnings: tuple[str, ...]
    method_reasons: Mapping[str, str]
    members: tuple[PlannedMember, ...] = ()


def run_plan(
    *,
    workspace: Workspace,
    data: str,
    method: str,
    preset: str | None = None,
    assignments: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter,
) -> PlanResult:
    """Plan a dataset for a method.

    Args:
        workspace: where names resolve and results lie.
        data: the dataset's name or path.
        method: as typed after `--method`.
        preset: name or path; None chooses.
        assignments: `--set` values.
        device: auto, cpu, cuda or cuda:1: its memory bounds the batch.
        workers: processes; None chooses.
        reporter: receives progress and warnings.

    Raises:
        ConfigError: unknown method, preset, key or bad value.
        DataError: the dataset cannot be used; all problems together.
        ResourceError: a worker died, or the disk is full.
    """
    arguments = {"data": data, "method": method, "preset": preset, "set": list(assignments), "device": device}
    with RunRecorder("plan", folder=None, reporter=reporter, arguments=arguments) as run:
        chosen = choose_preset(workspace, method, preset)
        resolved = configure(chosen, assignments=assignments)
        dataset = named_dataset(workspace, data)
        run.folder = workspace.preprocessed / dataset.name / PLANS_FOLDER
        planned = ensure_plan(
            workspace=workspace,
            dataset=dataset,
            method=method,
            preset=resolved.preset,
            overrides=resolved.plan,
            device=device,
            workers=workers,
            reporter=run,
        )
        run.add_output(planned.plan_file)
        return PlanResult(
            plan=planned.plan,
            plan_file=planned.plan_file,
            fingerprint_file=planned.folder / FINGERPRINT_NAME,
            measured=planned.measured,
            num_cases=len(dataset.training),
            num_patients=len({case.patient for case in dataset.training}),
            num_folds=len(all_splits(dataset, folder=planned.folder)),
            preset_why=chosen.why,
            warnings=tuple(run.warnings),
            members=tuple(
                PlannedMember(
                    dataset=one.dataset.name,
                    num_cases=len(one.dataset.training),
                    num_patients=len({case.patient for case in one.dataset.training}),
                    num_classes=len(set(dataset.member(one.dataset.name).classes.values())),
                    fingerprint_file=one.folder / FINGERPRINT_NAME,
                )
                for one in planned.members
            ),
            method_reasons=find_method(method).explain(resolved.model, planned.plan),
        )


def ensure_plan(
    *,
    workspace: Workspace,
    dataset: Dataset,
    method: str,
    preset: str,
    overrides: PlanConfig,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter,
    write: bool = True,
) -> Planned:
    """The plan of a dataset, on a fingerprint that is measured only when the files have changed.

    Args:
        preset: its name.
        overrides: the resolved `plan` section.
        write: False for a dry run: nothing is written (an out-of-date fingerprint is measured all the same).

    Raises:
        As `run_plan`.
    """
    memory = device_memory(device)
    planning = _Planning(
        card=find_card(method),
        method=method,
        preset=preset,
        overrides=overrides,
        memory_bytes=memory.num_bytes,
        cuda=memory.cuda,
    )
    plan_it = _plan_collection if dataset.members else _plan_dataset
    planned = plan_it(dataset, workspace, planning, workers=workers, reporter=reporter, write=write)
    if write:
        jsonio.write(planned.plan_file, planned.plan)
    _warn(planned, reporter, write=write)
    return planned


class _Planning(TypedDict):
    """What the planners take besides the data."""

    card: Card
    method: str
    preset: str
    overrides: PlanConfig
    memory_bytes: int
    cuda: bool


def _plan_dataset(
    dataset: Dataset,
    workspace: Workspace,
    planning: _Planning,
    *,
    workers: int | None,
    reporter: Reporter,
    write: bool,
) -> Planned:
    folder = workspace.preprocessed / dataset.name
    fingerprint, inputs, measured = _fingerprint(dataset, folder, workers=workers, reporter=reporter, write=write)
    plan = make_plan(dataset=dataset, fingerprint=fingerprint, **planning)
    return Planned(dataset=dataset, plan=plan, fingerprint=fingerprint, inputs=inputs, folder=folder, measured=measured)


def _plan_collection(
    dataset: Dataset,
    workspace: Workspace,
    planning: _Planning,
    *,
    workers: int | None,
    reporter: Reporter,
    write: bool,
) -> Planned:
    """Measure every member in its own folder, then plan them together."""
    facts = {}
    for member in dataset.members:
        folder = workspace.preprocessed / member.name
        facts[member.name] = _fingerprint(member.dataset, folder, workers=workers, reporter=reporter, write=write)
    fingerprints = {name: fingerprint for name, (fingerprint, _, _) in facts.items()}
    plan = make_collection_plan(dataset=dataset, fingerprints=fingerprints, **planning)
    members = tuple(
        Planned(
            dataset=member.dataset,
            plan=plan.member(member.name).plan,
            fingerprint=facts[member.name][0],
            inputs=facts[member.name][1],
            folder=workspace.preprocessed / member.name,
            measured=facts[member.name][2],
        )
        for member in dataset.members
    )
    return Planned(
        dataset=dataset,
        plan=plan,
        fingerprint=joint_fingerprint(dataset, fingerprints, {one.dataset: one.plan for one in plan.members}),
        inputs=Inputs(
            dataset=dataset.name,
            channels=(),
            cases={f"{one.dataset.name}/{case}": files for one in members for case, files in one.inputs.cases.items()},
        ),
        folder=workspace.preprocessed / dataset.name,
        measured=any(one.measured for one in members),
        members=members,
    )


def _fingerprint(
    dataset: Dataset, folder: Path, *, workers: int | None, reporter: Reporter, write: bool
) -> tuple[Fingerprint, Inputs, bool]:
    earlier = read_stored(folder / FINGERPRINT_NAME, Fingerprint)
    if earlier is not None:
        known = read_inputs(folder)
        now = list_inputs(dataset, known=known)
        if now.sha256 == earlier.inputs_sha256:
            if write and now != known:
                jsonio.write(folder / INPUTS_NAME, now)
            return earlier, now, False
        reporter.info(f"{dataset.name} has changed since its fingerprint was taken: measuring it again")
    measured = measure(dataset, workers=workers, reporter=reporter)
    if write:
        jsonio.write(folder / INPUTS_NAME, measured.inputs)
        jsonio.write(folder / FINGERPRINT_NAME, measured.fingerprint)
    return measured.fingerprint, measured.inputs, True


def _warn(planned: Planned, reporter: Reporter, *, write: bool) -> None:
    present = {value for case in planned.fingerprint.cases.values() for value in case.voxels_per_label}
    for name, value in planned.dataset.labels.items():
        if value not in present:
            reporter.warn(f"class '{name}' (value {value}) occurs in no training case of {planned.dataset.name}")
    left_out = unassigned(all_splits(planned.dataset, folder=planned.folder if write else None), planned.dataset)
    if left_out and len({case.patient for case in planned.dataset.training}) > 1:
        reporter.warn(
            f"{len(left_out)} cases are in no fold of splits_final.json, for instance {left_out[0]}; "
            "delete the file to have folds made anew"
        )
