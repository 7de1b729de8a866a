"""Preprocessing: what is finished is reused, what is damaged or changed is made again, faults name their case."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError, ProblemList, ResourceError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.data import preprocess as preprocessing
from medmoe_cli.core.data.fingerprint import measure
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.load import load_image, load_label, number_labels
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.data.preprocess import Job, Preprocessed, finished_records, make_jobs, preprocess
from medmoe_cli.core.data.source import SliceSource
from medmoe_cli.core.imaging.read import read_image
from tests.tools.datasets import make_dataset
from tests.tools.plans import fingerprint_of, slice_plan


class Log(Silent):
    """Keeps each case's status."""

    def __init__(self) -> None:
        super().__init__()
        self.status: dict[str, str] = {}

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        self.status[item] = status


def jobs_of(root: Path, folder: Path, plan: Plan | None = None) -> tuple[Job, ...]:
    dataset = open_dataset(root)
    channels = tuple(ChannelPlan(name=name, normalization="percentile") for name in dataset.channels)
    plan = plan or slice_plan(input_size=32, channels=channels, labels=dataset.labels)
    inputs = measure(dataset, workers=1, reporter=Silent()).inputs
    return make_jobs(dataset, plan, inputs, folder)


def run(jobs: Sequence[Job], *, workers: int | None = 1, log: Log | None = None) -> Preprocessed:
    shapes = [(24, 20, 12)] * len(jobs)
    fingerprint = fingerprint_of(shapes=shapes, spacings=[(1.0, 1.0, 2.0)] * len(jobs))
    return preprocess(jobs, fingerprint=fingerprint, workers=workers, reporter=log or Silent())


def test_training_sees_what_prediction_sees(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2, channels=2)
    jobs = jobs_of(root, tmp_path / "store")
    done = run(jobs)
    for job in jobs:
        image = load_image(job.case.images)
        prepared = prepare(image, job.plan)
        assert job.case.label is not None
        label = prepared.label_slices(load_label(job.case.label, image))
        record = done.records[job.case.id]
        assert record.shape == (12, 2, 32, 32)
        for index in range(prepared.num_slices):
            stored = done.store.read(record, index)
            shown = prepared.slice(index)
            assert (stored.image == shown.image).all()
            assert (stored.valid == shown.valid).all()
            assert (stored.label == prepared.fit.fit_label(label[index])).all()
        counted = {value for counts in record.voxels_per_label for value in counts}
        assert counted == {1, 2}


@pytest.mark.parametrize("context", [1, 2])
def test_both_are_shown_the_same_neighbours(tmp_path: Path, context: int) -> None:
    root = make_dataset(tmp_path / "ds", cases=2, channels=2)
    (alone, *_) = jobs_of(root, tmp_path / "store")
    plan = alone.plan.model_copy(update={"context_slices": context})
    jobs = jobs_of(root, tmp_path / "store", plan)
    assert [job.key for job in jobs] == [job.key for job in jobs_of(root, tmp_path / "store")]
    done = run(jobs)
    source = SliceSource(
        store=done.store, records=done.records, cases=sorted(done.records), plan=plan, empty_fraction=None
    )
    by_key = {source.key(position): source.load(position, seed=None) for position in range(len(source))}
    assert len(by_key) == 24
    for job in jobs:
        prepared = prepare(load_image(job.case.images), plan)
        for index in [*range(12), 3, 11, 0, 6]:
            shown, trained = prepared.slice(index), by_key[f"{job.case.id}:{index}"]
            assert shown.image.shape == (plan.input_channels, 32, 32)
            assert (shown.image == trained.image).all()
            assert (shown.valid == trained.valid).all()
            for place, offset in enumerate(range(-context, context + 1)):
                lone = prepared.lone_slice(min(max(index + offset, 0), 11)).image
                assert (shown.image[2 * place : 2 * place + 2] == lone).all()
            assert prepared.native_slice(index).shape[0] == 2
        assert len(prepared.recent) <= 2 * context + 1


def test_a_restart_reuses_what_is_finished(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=4)
    jobs = jobs_of(root, tmp_path / "store")
    first = run(jobs[:2])
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
    log = Log()
    second = run(jobs, log=log)
    assert (first.num_reused, second.num_reused) == (0, 2)
    assert list(log.status.values()) == ["cached", "cached", "ok", "ok"]
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert set(finished_records(jobs)) == {job.case.id for job in jobs}


def test_damage_is_noticed_and_redone(tmp_path: Path) -> None:
    jobs = jobs_of(make_dataset(tmp_path / "ds", cases=4), tmp_path / "store")
    first = run(jobs)
    flipped, cut, gone = (first.store.file(job.case.id) for job in jobs[:3])
    state = flipped.stat()
    raw = bytearray(flipped.read_bytes())
    raw[len(raw) // 2] ^= 4
    flipped.write_bytes(raw)
    os.utime(flipped, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a failing disk would: same size, same time
    cut.write_bytes(cut.read_bytes()[:-7])
    gone.unlink()
    log = Log()
    second = run(jobs, log=log)
    assert list(log.status.values()) == ["ok", "ok", "ok", "cached"]
    assert second.records == first.records


def test_what_the_result_depends_on_is_in_the_key(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    folder = tmp_path / "store"
    jobs = jobs_of(root, folder)
    run(jobs)
    path = root / "imagesTr" / "case_001_0000.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine, image.header), path)
    log = Log()
    run(jobs_of(root, folder), log=log)
    assert log.status == {"case_000": "cached", "case_001": "ok"}
    finer = jobs[0].plan.model_copy(update={"input_size": 64})
    assert finished_records(jobs_of(root, folder, finer)) == {}
    # The same values under another number: the stored labels differ.
    content = json.loads((root / "dataset.json").read_text())
    content["labels"] = {"background": 0, "lesion": 1, "organ": 2}
    (root / "dataset.json").write_text(json.dumps(content))
    assert finished_records(jobs_of(root, folder, jobs[0].plan)) == {}


def test_gaps_between_values_close(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=1)
    path = root / "labelsTr" / "case_000.nii.gz"
    label = nib.load(path)
    values = np.array([0, 4, 300], np.uint16)[np.asarray(label.dataobj)]
    nib.save(nib.Nifti1Image(values, label.affine), path)
    content = json.loads((root / "dataset.json").read_text())
    content["labels"] = {"background": 0, "organ": 300, "lesion": 4}
    (root / "dataset.json").write_text(json.dumps(content))
    done = run(jobs_of(root, tmp_path / "store", slice_plan(labels={"lesion": 1, "organ": 2})))
    record = done.records["case_000"]
    per_value = {value: sum(counts.get(value, 0) for counts in record.voxels_per_label) for value in (1, 2)}
    assert per_value[1] / per_value[2] == pytest.approx((values == 4).sum() / (values == 300).sum(), rel=0.15)
    numbered = number_labels(values, {4: 1, 300: 2}, path)
    assert numbered.dtype == np.uint8
    assert ((numbered == 1) == (values == 4)).all()
    many = number_labels(values, {4: 1, 300: 299}, path)
    assert many.dtype == np.uint16
    assert ((many == 299) == (values == 300)).all()


def test_faulty_cases_are_reported_together_and_the_rest_is_done(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=5)
    jobs = jobs_of(root, tmp_path / "store")
    image = root / "imagesTr" / "case_001_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:-20])
    path = root / "labelsTr" / "case_003.nii.gz"
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj) + np.uint8(7), label.affine), path)
    log = Log()
    with pytest.raises(ProblemList) as caught:
        run(jobs, log=log)
    assert caught.value.exit_code == 3
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 2
    assert "case_001_0000.nii.gz" in lines[0]
    assert "unexpected label values" in lines[1]
    assert "7, 8, 9; dataset.json names 1, 2" in lines[1]
    assert list(log.status.values()) == ["ok", "failed", "ok", "failed", "ok"]
    assert not list((tmp_path / "store").glob(".tmp-*"))


def test_workers_write_the_same_files(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=4)
    here, there = run(jobs_of(root, tmp_path / "a")), run(jobs_of(root, tmp_path / "b"), workers=2)
    assert here.records == there.records
    assert (tmp_path / "a" / "case_002.b2nd").read_bytes() == (tmp_path / "b" / "case_002.b2nd").read_bytes()


def test_no_space_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(make_dataset(tmp_path / "ds", cases=3), tmp_path / "store")
    run(jobs[:1])
    usage = dataclasses.make_dataclass("Usage", ["free"])
    monkeypatch.setattr(preprocessing.shutil, "disk_usage", lambda _: usage(free=1000))
    with pytest.raises(ResourceError, match=r"not enough disk space.*for 2 cases.*--workspace"):
        run(jobs)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["case_000.b2nd", "case_000.case.json"]


def test_volumes_of_a_3d_method(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=1)
    plan = slice_plan(
        spacing_mm=(1.0, 1.0, 1.0), channels=[ChannelPlan(name="channel0", normalization="ct", low=0.0, high=200.0)]
    )
    done = run(jobs_of(root, tmp_path / "store", plan))
    record = done.records["case_000"]
    assert record.shape == (1, 1, 24, 20, 24)  # z, y, x: 12 slices of 2 mm
    stored = done.store.read(record, 0)
    assert set(np.unique(stored.label)) == {0, 1, 2}
    assert record.voxels_per_label == ({1: int((stored.label == 1).sum()), 2: int((stored.label == 2).sum())},)
    original = read_image(root / "imagesTr" / "case_000_0000.nii.gz").data
    assert stored.image.mean() == pytest.approx(np.clip(original, 0, 200).mean() / 200, rel=0.03)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=1, channels=2)
    path = root / "imagesTr" / "case_000_0001.nii.gz"
    image = nib.load(path)
    moved = image.affine.copy()
    moved[2, 3] += 4
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), path)
    case = open_dataset(root).training[0]
    with pytest.raises(DataError, match=r"channel on another grid.*case_000_0001.*4 mm"):
        load_image(case.images)
