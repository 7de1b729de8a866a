"""The fingerprint against a plain computation on all voxels, its memory, and what it refuses."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError, ProblemList
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.fingerprint import measure
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.inputs import list_inputs
from tests.tools.datasets import make_dataset


def test_against_all_voxels_at_once(tmp_path: Path) -> None:
    # x is written last in the file and runs to the right: canonical order differs from the file's.
    affine = np.array([[0, 0, 0.8, 3], [1.5, 0, 0, -7], [0, 2.5, 0, 1], [0, 0, 0, 1.0]])
    root = make_dataset(tmp_path / "two", cases=3, shape=(12, 24, 20), channels=2, affine=affine)
    dataset = open_dataset(root)
    found = measure(dataset, workers=1, reporter=Silent()).fingerprint
    values: list[list[np.ndarray]] = [[], []]
    for case in dataset.training:
        assert case.label is not None
        label = nib.load(case.label).get_fdata()
        for channel, path in enumerate(case.images):
            values[channel].append(nib.load(path).get_fdata()[label > 0])
        facts = found.cases[case.id]
        assert facts.shape == (20, 12, 24)
        assert np.allclose(facts.spacing_mm, (0.8, 1.5, 2.5))
        assert facts.voxels_per_label == {value: int((label == value).sum()) for value in (1, 2)}
    for channel, name in enumerate(dataset.channels):
        everything = np.concatenate(values[channel])
        statistics = found.foreground[name]
        span = np.ptp(everything)
        assert statistics.num_voxels == everything.size
        assert np.isclose(statistics.mean, everything.mean(), rtol=1e-9)
        assert np.isclose(statistics.std, everything.std(), rtol=1e-9)
        for percent, value in (
            (0.5, statistics.percentile_00_5),
            (50, statistics.percentile_50),
            (99.5, statistics.percentile_99_5),
        ):
            assert abs(value - np.percentile(everything, percent)) <= 1e-3 * span
    assert found.dimensionality == 3
    assert found.median_shape == (20, 12, 24)
    assert found.num_cases == 3


def test_workers_change_nothing(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "ds", cases=5))
    assert measure(dataset, workers=2, reporter=Silent()) == measure(dataset, workers=1, reporter=Silent())


def test_memory_does_not_grow_with_the_cases(tmp_path: Path) -> None:
    few = make_dataset(tmp_path / "few", cases=3, shape=(48, 48, 40))
    many = tmp_path / "many"
    shutil.copytree(few, many)
    for number in range(3, 30):
        for folder, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
            source = few / folder / f"case_{number % 3:03d}{suffix}.nii.gz"
            (many / folder / f"case_{number:03d}{suffix}.nii.gz").symlink_to(source)
    text = (many / "dataset.json").read_text().replace('"numTraining": 3', '"numTraining": 30')
    (many / "dataset.json").write_text(text)

    def peak(root: Path) -> int:
        dataset = open_dataset(root)
        tracemalloc.start()
        measure(dataset, workers=1, reporter=Silent())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(few)  # first use loads code
    assert peak(many) < 1.15 * peak(few)


def test_inputs_are_told_by_bytes_not_by_time(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    dataset = open_dataset(root)
    measured = measure(dataset, workers=1, reporter=Silent())
    assert measured.inputs.sha256 == measured.fingerprint.inputs_sha256
    path = root / "imagesTr" / "case_000_0000.nii.gz"
    raw = path.read_bytes()
    path.write_bytes(raw)
    touched = list_inputs(dataset, known=measured.inputs)
    assert touched != measured.inputs
    assert touched.sha256 == measured.inputs.sha256
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine, image.header), path)
    assert list_inputs(dataset, known=measured.inputs).sha256 != measured.inputs.sha256
    assert measure(dataset, workers=1, reporter=Silent()).fingerprint.inputs_sha256 != measured.inputs.sha256


def test_all_broken_cases_are_reported(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=4)
    broken = root / "imagesTr" / "case_001_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-100])
    label = nib.load(root / "labelsTr" / "case_003.nii.gz")
    shifted = label.affine.copy()
    shifted[0, 3] += 30
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), shifted), root / "labelsTr" / "case_003.nii.gz")
    with pytest.raises(ProblemList) as caught:
        measure(open_dataset(root), workers=1, reporter=Silent())
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 2
    assert "case_001_0000.nii.gz" in lines[0]
    assert "label on another grid" in lines[1]
    assert "30 mm" in lines[1]


def test_nothing_labelled_is_said(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    for path in (root / "labelsTr").iterdir():
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), path)
    with pytest.raises(DataError, match="nothing is labelled"):
        measure(open_dataset(root), workers=1, reporter=Silent())
