"""Every mask of a dataset measured, case by case in worker processes: a table of fixed-width rows, kept on disk.

A row takes 40 bytes, so a member with ten million masks (TotalSegmentator's CT is of that order) fits in memory; of
several members one table is open at a time. Tables are kept under the dataset's preprocessed folder by what they were
measured from, so that another selection, or a veto, measures nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.load import load_image, load_label
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.data.quality import LONGEST_SIDE, TERM_NAMES, grey, measure_mask
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.separable import resize
from medmoe_cli.core.imaging.vote import vote

FOLDER = "quality"
_VERSION = 1
"""Of the terms and of the table: a change of either measures anew."""

ROW = np.dtype(
    [
        ("case", np.int32),
        ("slice", np.int32),
        ("value", np.int32),
        ("pixels", np.int32),
        *((name, np.float32) for name in TERM_NAMES),
    ]
)
"""One mask: the case's place among the training cases, the slice, the label's value in the files, the mask's pixels on
the picture that was measured, and the terms (zeros for a mask that vanishes on it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSlice:
    """One slice as it is measured, shrunk where it is large.

    Attributes:
        picture_CHW: values in [0, 1] by the plan.
        label_HW: the file's label values.
        pixel_mm: height and width of a pixel.
    """

    picture_CHW: NDArray[np.float32]
    label_HW: NDArray[Any]
    pixel_mm: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCase:
    """A case's image and label, slice by slice along the plan's slice axis."""

    scan: SlicedScan
    label_SHW: NDArray[Any]

    def values(self, index: int) -> NDArray[Any]:
        """Label values in a slice, background excluded."""
        found = np.unique(self.label_SHW[index])
        return found[found > 0]

    def shown(self, index: int) -> ShownSlice:
        """One slice as it is measured."""
        picture, label = self.scan.native_slice(index), self.label_SHW[index]
        height_mm, width_mm = self.scan.pixel_mm
        shape = _at_most(label.shape)
        if shape != label.shape:
            height_mm, width_mm = height_mm * label.shape[0] / shape[0], width_mm * label.shape[1] / shape[1]
            picture, label = resize(picture, shape, "area"), vote(label, shape)
        return ShownSlice(picture_CHW=picture, label_HW=label, pixel_mm=(height_mm, width_mm))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    place: int
    case: Case
    plan: Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    case: str
    rows: NDArray[Any] | None = None
    problems: tuple[MedMoEError, ...] = ()


def open_case(case: Case, plan: Plan) -> OpenCase:
    """Read a labelled case.

    Raises:
        DataError: a file cannot be read, or there is no label.
    """
    if case.label is None:
        raise DataError("no label", where=case.id, fix="add its label map to labelsTr")
    image = load_image(case.images)
    scan = prepare(image, plan)
    return OpenCase(scan=scan, label_SHW=scan.label_slices(load_label(case.label, image)))


def measured_masks(
    dataset: Dataset, plan: Plan, *, inputs_sha256: str, folder: Path, workers: int | None, reporter: Reporter
) -> Path:
    """Measure every mask of the training cases, unless that has been done.

    Args:
        dataset: the member.
        plan: its slice axis and intensity rule.
        inputs_sha256: of the files.
        folder: where tables are kept.
        workers: processes; None chooses.
        reporter: hears of every case.

    Returns:
        The table's file, for `read_table`.

    Raises:
        DataError: cases that cannot be read, all of them.
        ResourceError: a worker was killed, or the disk is full.
    """
    key = value_sha256([_VERSION, inputs_sha256, plan.slice_axis, [channel.model_dump() for channel in plan.channels]])
    path = folder / f"{key[:16]}.npy"
    if _usable(path):
        reporter.info(f"{dataset.name}: masks were measured before")
        return path
    jobs = [_Job(place=place, case=case, plan=plan) for place, case in enumerate(dataset.training)]
    parts: list[NDArray[Any]] = []
    problems: list[MedMoEError] = []
    reporter.start(f"quality of {dataset.name}", len(jobs))
    for done in each(_measure, jobs, workers=worker_count(workers, len(jobs)), name=lambda job: job.case.id):
        problems += done.problems
        if done.rows is not None:
            parts.append(done.rows)
        failed = f"{done.problems[0].line()}" if done.problems else ""
        masks = 0 if done.rows is None else len(done.rows)
        reporter.advance(done.case, status="failed" if failed else "ok", detail=failed or f"{masks} masks")
    reporter.finish()
    raise_all(problems)
    table = np.concatenate(parts) if parts else np.zeros(0, ROW)
    return atomic.replace_file(path, lambda temporary: _save(temporary, table))


def read_table(path: Path) -> NDArray[Any]:
    """A table of `measured_masks`: rows of dtype `ROW` in the order of cases, slices and values."""
    return np.asarray(np.load(path, allow_pickle=False))


def group_by_value(table: NDArray[Any]) -> Mapping[int, NDArray[np.intp]]:
    """Places of each label value's rows, in the table's order."""
    order = np.argsort(table["value"], kind="stable")
    values, starts = np.unique(table["value"][order], return_index=True)
    return dict(zip(map(int, values), np.split(order, starts[1:]), strict=True)) if len(values) else {}


def _measure(job: _Job) -> _Measured:
    try:
        return _Measured(case=job.case.id, rows=_rows(job))
    except ProblemList as error:
        return _Measured(case=job.case.id, problems=error.problems)
    except MedMoEError as error:
        return _Measured(case=job.case.id, problems=(error,))


def _rows(job: _Job) -> NDArray[Any]:
    case = open_case(job.case, job.plan)
    found: list[tuple[float, ...]] = []
    for index in range(case.scan.num_slices):
        values = case.values(index)
        if not len(values):
            continue
        shown = case.shown(index)
        picture = grey(shown.picture_CHW)
        for value in values:
            mask = shown.label_HW == value
            pixels = int(mask.sum())
            terms = measure_mask(picture, mask) if pixels else None
            row = tuple(getattr(terms, name) for name in TERM_NAMES) if terms else (0.0,) * len(TERM_NAMES)
            found.append((job.place, index, int(value), pixels, *row))
    return np.array(found, ROW)


def _at_most(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, cols = shape
    share = min(1.0, LONGEST_SIDE / max(rows, cols))
    return max(1, round(rows * share)), max(1, round(cols * share))


def _save(path: Path, table: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, table, allow_pickle=False)


def _usable(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        return bool(np.load(path, allow_pickle=False, mmap_mode="r").dtype == ROW)
    except (OSError, ValueError, EOFError):
        return False
