"""The fingerprint: one pass over every training case, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.fingerprint import CaseFacts, Fingerprint
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.histogram import Histogram, count
from medmoe_cli.core.data.inputs import FileFacts, Inputs, case_inputs
from medmoe_cli.core.data.load import load_image, load_label
from medmoe_cli.core.data.plan_intensity import channel_keys
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.orientation import reorientation_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A dataset's fingerprint and the inputs it was computed from."""

    fingerprint: Fingerprint
    inputs: Inputs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    case: Case
    root: Path
    num_channels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measurement:
    """One case: its facts and foreground histograms, or what is wrong with it."""

    case: str
    facts: CaseFacts | None = None
    histograms: tuple[Histogram, ...] = ()
    files: dict[str, FileFacts] | None = None
    problems: tuple[MedMoEError, ...] = ()


def measure(dataset: Dataset, *, workers: int | None, reporter: Reporter) -> Measured:
    """Measure a dataset; the result does not depend on the number of workers.

    Raises:
        DataError: cases cannot be read (all of them are reported), or nothing is labelled.
        ResourceError: a worker was killed.
    """
    jobs = [_Job(case=case, root=dataset.root, num_channels=len(dataset.channels)) for case in dataset.training]
    totals = [Histogram() for _ in dataset.channels]
    facts: dict[str, CaseFacts] = {}
    files: dict[str, dict[str, FileFacts]] = {}
    problems: list[MedMoEError] = []
    reporter.start("fingerprint", len(jobs))
    for found in each(measure_case, jobs, workers=worker_count(workers, len(jobs)), name=lambda job: job.case.id):
        if found.facts is None or found.files is None:
            problems += found.problems
            reporter.advance(found.case, status="failed", detail=found.problems[0].line())
            continue
        facts[found.case], files[found.case] = found.facts, found.files
        for total, histogram in zip(totals, found.histograms, strict=True):
            total.merge(histogram)
        reporter.advance(found.case, detail="x".join(map(str, found.facts.shape)))
    reporter.finish()
    raise_all(problems)
    if totals[0].num_values == 0:
        raise DataError(
            "nothing is labelled",
            where=dataset.root,
            why=f"none of the {len(jobs)} label maps holds anything but background",
            fix=f"medmoe check {dataset.name}",
        )
    inputs = Inputs(dataset=dataset.name, channels=dataset.channels, cases=files)
    return Measured(fingerprint=_fingerprint(dataset, facts, totals, inputs), inputs=inputs)


def measure_case(job: _Job) -> _Measurement:
    """Measure one case; its faults are returned."""
    try:
        return _measure(job)
    except ProblemList as error:
        return _Measurement(case=job.case.id, problems=error.problems)
    except MedMoEError as error:
        return _Measurement(case=job.case.id, problems=(error,))


def _measure(job: _Job) -> _Measurement:
    files = case_inputs(job.case, job.root, {})
    image = load_image(job.case.images)
    if image.num_channels != job.num_channels:
        raise DataError(
            "wrong number of channels",
            where=job.case.images[0],
            why=f"the image has {image.num_channels}, dataset.json names {job.num_channels}",
            fix="correct channel_names in dataset.json, or the image",
        )
    if job.case.label is None:
        raise DataError("no label", where=job.case.id, fix="add its label map to labelsTr")
    label = load_label(job.case.label, image)
    values, counts = np.unique(label, return_counts=True)
    foreground = label > 0
    canonical = reorientation_of(image.geometry).target
    return _Measurement(
        case=job.case.id,
        facts=CaseFacts(
            shape=canonical.shape,
            spacing_mm=canonical.spacing_mm,
            voxels_per_label={
                int(value): int(number) for value, number in zip(values, counts, strict=True) if value != 0
            },
        ),
        histograms=tuple(count(channel[foreground]) for channel in image.data),
        files=files,
    )


def _fingerprint(
    dataset: Dataset, facts: dict[str, CaseFacts], totals: Sequence[Histogram], inputs: Inputs
) -> Fingerprint:
    shapes = np.array([case.shape for case in facts.values()])
    spacings = np.array([case.spacing_mm for case in facts.values()])
    shape, spacing = np.median(shapes, axis=0), np.median(spacings, axis=0)
    return Fingerprint(
        dataset=dataset.name,
        num_cases=len(facts),
        num_channels=len(dataset.channels),
        dimensionality=2 if (shapes == 1).any(axis=1).all() else 3,
        median_shape=(float(shape[0]), float(shape[1]), float(shape[2])),
        median_spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        foreground={key: total.statistics() for key, total in zip(channel_keys(dataset.channels), totals, strict=True)},
        cases=facts,
        inputs_sha256=inputs.sha256,
    )
