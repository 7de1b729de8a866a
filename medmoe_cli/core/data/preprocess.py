"""Preprocessing: every training case once onto the network's grid, resumable case by case."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList, ResourceError, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.fingerprint import CaseFacts, Fingerprint
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.inputs import Inputs
from medmoe_cli.core.data.load import load_image, load_label, number_labels
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.data.store import FORMAT_VERSION, CaseRecord, Store, Writing
from medmoe_cli.core.data.volume import prepare_volume, volume_shape
from medmoe_cli.core.data.workers import each, worker_count

_BYTES_PER_VALUE = 2
# Compressed size of normalised scans against their float16 size; air and padding take nothing.
_COMPRESSED = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One case to preprocess.

    Attributes:
        case: its files.
        plan: the plan.
        key: hash of everything the result depends on.
        numbers: label value in the files to label value in the plan.
        folder: the store's folder.
    """

    case: Case
    plan: Plan
    key: str
    numbers: Mapping[int, int]
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a case: its record, or its faults."""

    case: str
    reused: bool = False
    record: CaseRecord | None = None
    problems: tuple[MedMoEError, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessed:
    """A finished store: its folder, the cases' records, and how many were there before."""

    store: Store
    records: Mapping[str, CaseRecord]
    num_reused: int


def store_folder(dataset_folder: Path, plan: Plan) -> Path:
    """Where a plan's preprocessed cases lie under the dataset's preprocessed folder."""
    return dataset_folder / plan.preprocessing_key


def make_jobs(dataset: Dataset, plan: Plan, inputs: Inputs, folder: Path) -> tuple[Job, ...]:
    """One job per training case."""
    numbers = {dataset.labels[name]: number for name, number in plan.labels.items()}
    parts = [FORMAT_VERSION, plan.preprocessing_key, sorted(numbers.items())]
    return tuple(
        Job(
            case=case,
            plan=plan,
            key=value_sha256([*parts, inputs.case_sha256(case.id)]),
            numbers=numbers,
            folder=folder,
        )
        for case in dataset.training
    )


def finished_records(jobs: Sequence[Job]) -> Mapping[str, CaseRecord]:
    """The records of the jobs that are done already, by the records alone (bytes are checked when they are read)."""
    found = {}
    for job in jobs:
        record = Store(folder=job.folder).claimed(job.case.id, job.key)
        if record is not None:
            found[job.case.id] = record
    return found


def preprocess(
    jobs: Sequence[Job], *, fingerprint: Fingerprint, workers: int | None, reporter: Reporter
) -> Preprocessed:
    """Preprocess every case that is not finished; finished ones are checked byte for byte and reused.

    Raises:
        DataError: cases that cannot be used, all of them; the others are finished and kept.
        ResourceError: no disk space, or a worker was killed; finished cases are kept.
    """
    folder = jobs[0].folder
    store = Store(folder=folder)
    if folder.is_dir():
        atomic.sweep(folder)
    require_space(jobs, fingerprint, finished=frozenset(finished_records(jobs)))
    reporter.start("preprocess", len(jobs))
    records: dict[str, CaseRecord] = {}
    problems: list[MedMoEError] = []
    num_reused = 0
    for outcome in each(preprocess_case, jobs, workers=worker_count(workers, len(jobs)), name=lambda job: job.case.id):
        if outcome.record is None:
            problems += outcome.problems
            reporter.advance(outcome.case, status="failed", detail=outcome.problems[0].line())
            continue
        records[outcome.case] = outcome.record
        num_reused += outcome.reused
        status = "cached" if outcome.reused else "ok"
        shape = "x".join(map(str, outcome.record.shape))
        reporter.advance(outcome.case, status=status, detail=f"{shape} {outcome.seconds:.1f}s")
    reporter.finish()
    raise_all(problems)
    return Preprocessed(store=store, records=records, num_reused=num_reused)


def preprocess_case(job: Job) -> Outcome:
    """Make one case, unless it is finished; its faults are returned.

    Raises:
        ResourceError: the disk is full or not writable, which is no fault of the case.
    """
    started = time.monotonic()
    store = Store(folder=job.folder)
    finished = store.finished(job.case.id, job.key)
    if finished is not None:
        return Outcome(case=job.case.id, reused=True, record=finished, seconds=time.monotonic() - started)
    try:
        record = store.write(_make(job))
    except ResourceError:
        raise
    except MedMoEError as error:
        return Outcome(case=job.case.id, problems=error.problems if isinstance(error, ProblemList) else (error,))
    return Outcome(case=job.case.id, record=record, seconds=time.monotonic() - started)


def require_space(jobs: Sequence[Job], fingerprint: Fingerprint, *, finished: frozenset[str]) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        ResourceError: the estimate exceeds the free space.
    """
    waiting = [job for job in jobs if job.case.id not in finished]
    needed = sum(
        estimated_bytes(job.plan, fingerprint.cases[job.case.id]) for job in waiting if job.case.id in fingerprint.cases
    )
    place = jobs[0].folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ResourceError(
            "not enough disk space",
            where=jobs[0].folder,
            why=f"about {needed / 1e9:.1f} GB for {len(waiting)} cases, {free / 1e9:.1f} GB free",
            fix="free some space, or choose another disk with --workspace",
        )


def estimated_bytes(plan: Plan, facts: CaseFacts) -> int:
    """Expected size of a preprocessed case on disk."""
    if plan.spacing_mm is None:
        values = facts.shape[plan.slice_axis] * plan.input_size**2
    else:
        x, y, z = volume_shape(facts.shape, facts.spacing_mm, plan.spacing_mm)
        values = x * y * z
    return int(values * (len(plan.channels) + 1) * _BYTES_PER_VALUE * _COMPRESSED)


def _make(job: Job) -> Writing:
    image = load_image(job.case.images)
    if job.case.label is None:
        raise DataError("no label", where=job.case.id, fix="add its label map to labelsTr")
    label = number_labels(load_label(job.case.label, image), job.numbers, job.case.label)
    if job.plan.dims == 3:
        volume = prepare_volume(image, job.plan)
        writing = Writing(
            case=job.case.id,
            key=job.key,
            shape=(1, *volume.image.shape),
            valid_shape=volume.image.shape[1:],
            spacing_mm=volume.spacing_mm,
        )
        writing.add(volume.image, volume.fit_label(label))
        return writing
    prepared = prepare(image, job.plan)
    size = job.plan.input_size
    writing = Writing(
        case=job.case.id,
        key=job.key,
        shape=(prepared.num_slices, image.num_channels, size, size),
        valid_shape=(prepared.fit.resized_rows, prepared.fit.resized_cols),
        spacing_mm=prepared.fit.input_spacing_mm,
    )
    slices = prepared.label_slices(label)
    for index in range(prepared.num_slices):
        writing.add(prepared.lone_slice(index).image, prepared.fit.fit_label(slices[index]))
    return writing
