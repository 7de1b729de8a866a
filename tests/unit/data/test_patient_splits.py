"""Folds: nnU-Net's where every case is a patient, by patient always, and files that are respected but checked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, ProblemList
from medmoe_cli.core.data.splits import FILE_NAME, all_splits, make_splits, split, unassigned
from tests.tools.plans import dataset_of


@pytest.mark.parametrize("num_cases", [5, 7, 23, 130])
def test_one_case_per_patient_gives_nnunets_folds(num_cases: int) -> None:
    KFold = pytest.importorskip("sklearn.model_selection").KFold
    cases = [f"case_{number:03d}" for number in range(num_cases)]
    expected = [
        ([cases[k] for k in train], [cases[k] for k in held_out])
        for train, held_out in KFold(5, shuffle=True, random_state=12345).split(cases)
    ]
    made = make_splits({case: case for case in cases})
    assert [(list(fold.train), list(fold.validation)) for fold in made] == expected


def test_folds_are_written_once_and_read_back(tmp_path: Path) -> None:
    dataset = dataset_of(patients=[f"p{number // 2}" for number in range(20)])
    first = all_splits(dataset, folder=tmp_path)
    written = (tmp_path / FILE_NAME).read_bytes()
    assert json.loads(written)[0].keys() == {"train", "val"}
    assert all_splits(dataset, folder=tmp_path) == first
    assert (tmp_path / FILE_NAME).read_bytes() == written
    assert split(dataset, 2, folder=tmp_path) == first[2]
    train, validation = split(dataset, "all", folder=tmp_path)
    assert train == validation == tuple(case.id for case in dataset.training)


def test_the_datasets_own_file_wins(tmp_path: Path) -> None:
    dataset = dataclasses.replace(dataset_of(patients=["a", "b", "c"]), root=tmp_path / "raw")
    own = [{"train": ["case_002"], "val": ["case_000"]}]
    for place, content in ((dataset.root, own), (tmp_path / "pre", [{"train": ["case_000"], "val": ["case_001"]}])):
        place.mkdir()
        (place / FILE_NAME).write_text(json.dumps(content))
    folds = all_splits(dataset, folder=tmp_path / "pre")
    assert folds == ((("case_002",), ("case_000",)),)
    assert unassigned(folds, dataset) == ("case_001",)


def test_every_problem_of_a_file_is_reported_together(tmp_path: Path) -> None:
    dataset = dataset_of(patients=["a", "a", "b", "c"])
    content = [
        {"train": ["case_000", "case_002", "case_02"], "val": ["case_001", "case_001"]},
        {"train": ["case_003"], "val": []},
    ]
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(ProblemList) as caught:
        all_splits(dataset, folder=tmp_path)
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 4
    assert "unknown cases" in lines[0]
    assert "did you mean 'case_002'" in lines[0]
    assert "listed twice" in lines[1]
    assert "a patient in train and val" in lines[2]
    assert "fold 0: a" in lines[2]
    assert "without cases" in lines[3]
    assert all(str(tmp_path / FILE_NAME) in line and "fix: " in line for line in lines)


@pytest.mark.parametrize("content", ["{}", "[]", '[{"train": ["a"]}]', '[{"train": "a", "val": ["b"]}]', "[1]"])
def test_what_is_no_splits_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(DataError, match="not a splits file"):
        all_splits(dataset_of(), folder=tmp_path)


def test_fewer_patients_than_folds() -> None:
    dataset = dataset_of(patients=["a", "b", "b", "c"])
    folds = all_splits(dataset)
    assert len(folds) == 3
    assert sorted(case for fold in folds for case in fold.validation) == [case.id for case in dataset.training]
    with pytest.raises(ConfigError, match=r"no fold 3 .* 3 folds, 0 to 2"):
        split(dataset, 3)
    with pytest.raises(ConfigError, match="unknown fold 'one'"):
        split(dataset, "one")
    with pytest.raises(DataError, match=r"of one patient.*--fold all"):
        split(dataset_of(patients=["a", "a"]), 0)
    assert len(split(dataset_of(patients=["a", "a"]), "all").train) == 2


def test_folds_do_not_depend_on_the_global_generator() -> None:
    patients = {f"c{number}": f"p{number % 9}" for number in range(30)}
    first = make_splits(patients)
    np.random.default_rng(0).random(5)
    assert make_splits(dict(reversed(patients.items()))) == first
