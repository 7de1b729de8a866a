"""open_dataset: what it takes, and that every problem of names and keys comes at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medmoe_cli.core.base.errors import DataError, ProblemList
from medmoe_cli.core.data.index import open_dataset
from tests.tools.datasets import make_dataset


def edit(root: Path, **keys: Any) -> None:
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    for key, value in keys.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def problems_of(root: Path) -> list[str]:
    with pytest.raises((DataError, ProblemList)) as caught:
        open_dataset(root)
    assert caught.value.exit_code == 3
    return [problem.line() for problem in getattr(caught.value, "problems", [caught.value])]


def test_a_volume_dataset(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "two", cases=3, channels=2, tests=1, cases_per_patient=2)
    dataset = open_dataset(root)
    assert dataset.name == "two"
    assert dataset.labels == {"organ": 1, "lesion": 2}
    assert [case.id for case in dataset.training] == ["case_000", "case_001", "case_002"]
    assert [path.name for path in dataset.training[1].images] == ["case_001_0000.nii.gz", "case_001_0001.nii.gz"]
    assert [case.patient for case in dataset.training] == ["patient_000", "patient_000", "patient_001"]
    assert dataset.test[0].label == root / "labelsTs" / "case_003.nii.gz"
    assert dataset.modality == "phantom"


def test_a_colour_picture_is_one_file(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "rgb", dims=2, colour=True))
    assert dataset.channels == ("R", "G", "B")
    assert all(len(case.images) == 1 for case in dataset.training)


def test_test_cases_need_no_label(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", tests=2)
    (root / "labelsTs" / "case_005.nii.gz").unlink()
    assert [case.label is None for case in open_dataset(root).test] == [False, True]


def test_listed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    (root / "imagesTr").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SCANS", str(tmp_path / "elsewhere"))
    listed = {"a": {"images": ["$SCANS/case_001_0000.nii.gz"], "label": "labelsTr/case_001.nii.gz"}}
    edit(root, dataset=listed)
    dataset = open_dataset(root)
    assert [case.id for case in dataset.training] == ["a"]
    assert dataset.training[0].images[0] == tmp_path / "elsewhere" / "case_001_0000.nii.gz"
    listed["b"] = {"images": ["$SCANS/none.nii.gz"], "label": "labelsTr/none.nii.gz"}
    edit(root, dataset=listed)
    lines = problems_of(root)
    assert len(lines) == 2
    assert all("file-missing" in line for line in lines)


def test_gaps_between_labels_are_taken(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(root, labels={"background": 0, "liver": 9, "organ": 1})
    assert list(open_dataset(root).labels.items()) == [("organ", 1), ("liver", 9)]


def test_class_prompts_default_to_the_name(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(root, class_prompts={"lesion": "dark spot"})
    assert open_dataset(root).class_prompts == {"organ": "organ", "lesion": "dark spot"}


def test_every_key_problem_at_once(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(
        root,
        channel_names={"0": "CT", "2": "PET"},
        labels={"background": 0, "whole": [1, 2], "liver": 1, "spleen": 1, "x": "2", "ignore": 3},
        file_ending=".gz",
        numTraining="four",
        modality=7,
        class_prompts={"livr": "liver"},
        patients=["a"],
    )
    lines = problems_of(root)
    joined = "\n".join(lines)
    for part in (
        "channel_names",
        "regions",
        "'ignore'",
        "more than one name",
        "file_ending",
        "numTraining",
        "modality",
    ):
        assert part in joined, part
    assert "did you mean 'liver'" in joined
    assert "'patients'" in joined
    assert len(lines) == 10


@pytest.mark.parametrize("written", ["MR", {"0": "MR", "1": "MR"}, ["MR", "MR"]])
def test_the_modality_is_a_text_or_one_per_channel(tmp_path: Path, written: object) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(root, modality=written)
    assert open_dataset(root).modality == "MR"


def test_a_misspelt_required_key_is_named(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(root, file_ending=None, file_endings=".nii.gz")
    assert "'file_endings' looks like it" in problems_of(root)[0]


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\0\1"])
def test_broken_json(tmp_path: Path, text: str) -> None:
    root = make_dataset(tmp_path / "ds")
    (root / "dataset.json").write_text(text)
    assert len(problems_of(root)) == 1


def test_no_dataset_json(tmp_path: Path) -> None:
    assert "medmoe convert" in problems_of(tmp_path)[0]


def test_version_1_is_sent_to_convert(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds")
    edit(root, channel_names=None, modality={"0": "CT"}, labels={"0": "background", "1": "liver"})
    line = problems_of(root)[0]
    assert "--format nnunet" in line


def test_no_case_names_the_pattern_and_what_is_there(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000.nii.gz", "_0000.nii")))
    lines = problems_of(root)
    empty = next(line for line in lines if "no-cases" in line)
    assert "imagesTr/CASE_0000.nii.gz" in empty
    assert "imagesTr/case_000_0000.nii" in empty
    assert sum("ending-mixed" in line for line in lines) == 2


def test_every_naming_problem_at_once(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=4, channels=2)
    (root / "imagesTr" / "case_000_0001.nii.gz").unlink()
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    (root / "labelsTr" / "case_002.nii.gz").rename(root / "labelsTr" / "case_02.nii.gz")
    joined = "\n".join(problems_of(root))
    assert joined.count("label-missing") == 2
    assert joined.count("channel-missing") == 1
    assert "is it 'case_002'?" in joined


def test_junk_is_no_case(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    (root / "imagesTr" / "._case_000_0000.nii.gz").write_bytes(b"junk")
    (root / "labelsTr" / ".DS_Store").write_bytes(b"junk")
    (root / "__MACOSX").mkdir()
    assert len(open_dataset(root).training) == 2
