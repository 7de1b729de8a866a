"""preprocess: every training case onto the network's grid, once; a restart reuses what is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.lock import exclusive
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.preprocess import finished_records, make_jobs, preprocess, store_folder
from medmoe_cli.core.data.store import CaseRecord, Store
from medmoe_cli.core.workflows.configure import choose_preset, configure
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.named_dataset import named_dataset
from medmoe_cli.core.workflows.plan import Planned, ensure_plan

_WAIT_S = 2.0
_WAIT_LIMIT_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """Preprocessed training data: where, and what is in them.

    Attributes:
        store: the cases; of a collection, those of its first member.
        records: by case; MEMBER/CASE in a collection.
        num_reused: finished before.
        members: of a collection, each with its own store and its own names of cases.
    """

    store: Store
    records: Mapping[str, CaseRecord]
    num_reused: int
    members: Mapping[str, Ready] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Hash of what is in them."""
        if self.members:
            return value_sha256({member: ready.content for member, ready in self.members.items()})
        return value_sha256({case: record.key for case, record in self.records.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberCases:
    """A member's preprocessed cases: where, how many, and how many samples."""

    dataset: str
    folder: Path
    num_cases: int
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessResult:
    """What `preprocess` did.

    Attributes:
        plan: the plan it followed.
        folder: the preprocessed cases.
        num_cases: all training cases, finished now.
        num_reused: those that were finished before.
        num_samples: slices (2D methods) or volumes.
        num_bytes: on disk.
        preset_why: why this preset; '' when it was named.
        members: of a collection.
    """

    plan: Plan
    folder: Path
    num_cases: int
    num_reused: int
    num_samples: int
    num_bytes: int
    preset_why: str
    members: tuple[MemberCases, ...] = ()


def run_preprocess(
    *,
    workspace: Workspace,
    data: str,
    method: str,
    preset: str | None = None,
    assignments: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter,
) -> PreprocessResult:
    """Plan a dataset and preprocess its training cases; arguments as in `run_plan`.

    Finished cases are checked byte for byte; damaged ones and those whose input has changed are made again.

    Raises:
        ConfigError: unknown method, preset, key or bad value.
        DataError: cases that cannot be used, all of them.
        ResourceError: no disk space, or a worker was killed; finished cases are kept.
    """
    arguments = {"data": data, "method": method, "preset": preset, "set": list(assignments), "workers": workers}
    with RunRecorder("preprocess", folder=None, reporter=reporter, arguments=arguments) as run:
        chosen = choose_preset(workspace, method, preset)
        resolved = configure(chosen, assignments=assignments)
        planned = ensure_plan(
            workspace=workspace,
            dataset=named_dataset(workspace, data),
            method=method,
            preset=resolved.preset,
            overrides=resolved.plan,
            device=device,
            workers=workers,
            reporter=run,
        )
        run.folder = planned.folder if planned.members else store_folder(planned.folder, planned.plan)
        ready = _preprocess(planned, workers=workers, reporter=run)
        for one in ready.members.values():
            run.add_output(one.store.folder)
        run.add_output(ready.store.folder)
        return PreprocessResult(
            plan=planned.plan,
            folder=ready.store.folder,
            num_cases=len(ready.records),
            num_reused=ready.num_reused,
            num_samples=sum(record.num_samples for record in ready.records.values()),
            num_bytes=sum(record.num_bytes for record in ready.records.values()),
            preset_why=chosen.why,
            members=tuple(
                MemberCases(
                    dataset=member,
                    folder=one.store.folder,
                    num_cases=len(one.records),
                    num_samples=sum(record.num_samples for record in one.records.values()),
                )
                for member, one in ready.members.items()
            ),
        )


def ensure_preprocessed(planned: Planned, *, workers: int | None = None, reporter: Reporter) -> Ready:
    """The preprocessed cases of a plan, made where they are missing.

    When every case has a record for its present inputs nothing is read: samples carry checksums that are compared
    when they are loaded.

    Raises:
        As `run_preprocess`.
    """
    if planned.members:
        return _joined(
            {one.dataset.name: ensure_preprocessed(one, workers=workers, reporter=reporter) for one in planned.members}
        )
    ready = finished(planned)
    return ready or _preprocess(planned, workers=workers, reporter=reporter)


def finished(planned: Planned) -> Ready | None:
    """The preprocessed cases of a plan when all of them are there, by their records; else None."""
    if planned.members:
        found = {one.dataset.name: finished(one) for one in planned.members}
        there = {name: ready for name, ready in found.items() if ready is not None}
        return _joined(there) if len(there) == len(found) else None
    folder = store_folder(planned.folder, planned.plan)
    jobs = make_jobs(planned.dataset, planned.plan, planned.inputs, folder)
    records = finished_records(jobs)
    if len(records) < len(jobs):
        return None
    return Ready(store=Store(folder=folder), records=records, num_reused=len(records))


def _joined(members: Mapping[str, Ready]) -> Ready:
    """A collection's cases, each in its member's own store, where training on the member alone finds them too."""
    return Ready(
        store=next(iter(members.values())).store,
        records={f"{name}/{case}": record for name, one in members.items() for case, record in one.records.items()},
        num_reused=sum(one.num_reused for one in members.values()),
        members=members,
    )


def _preprocess(planned: Planned, *, workers: int | None, reporter: Reporter) -> Ready:
    if planned.members:
        found = {}
        for one in planned.members:
            reporter.info(f"member {one.dataset.name}: {len(one.dataset.training)} cases")
            found[one.dataset.name] = _preprocess(one, workers=workers, reporter=reporter)
        return _joined(found)
    folder = store_folder(planned.folder, planned.plan)
    with _alone(folder, reporter):
        jobs = make_jobs(planned.dataset, planned.plan, planned.inputs, folder)
        done = preprocess(jobs, fingerprint=planned.fingerprint, workers=workers, reporter=reporter)
    if done.num_reused:
        reporter.info(f"{done.num_reused} of {len(jobs)} cases were finished before and are reused")
    return Ready(store=done.store, records=done.records, num_reused=done.num_reused)


@contextmanager
def _alone(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Hold the folder's lock, waiting for another run on the same data (five folds started at once) to end."""
    started = time.monotonic()
    told = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive(folder))
                break
            except ResourceError as error:
                if error.what != "another medmoe is at work" or time.monotonic() - started > _WAIT_LIMIT_S:
                    raise
                if not told:
                    reporter.info(f"another medmoe preprocesses these data: waiting ({error.why})")
                    told = True
                time.sleep(_WAIT_S)
        yield
