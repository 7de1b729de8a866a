"""A collection's folder: members joined under one vocabulary, every mistake said, patients held out by member."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.collection import is_collection
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.splits import all_splits, held_out_patients, split
from medmoe_cli.core.workflows.check import ensure_checked, run_check
from tests.tools.collections import MEMBERS, NAME, make_collection
from tests.tools.datasets import make_dataset


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    make_collection(tmp_path / "datasets", cases=3)
    return tmp_path / "datasets"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lines(error: MedMoEError) -> list[str]:
    return [one.line() for one in error.problems] if isinstance(error, ProblemList) else [error.line()]


def test_members_are_joined_under_one_vocabulary(datasets: Path) -> None:
    assert is_collection(datasets / NAME)
    assert not is_collection(datasets / "heads")
    found = open_dataset(datasets / NAME)
    assert found.labels == {"right_kidney": 1, "skins_lesion": 2, "spleen": 3}
    assert [member.name for member in found.members] == list(MEMBERS)
    assert found.member("heads").classes == {"kidney_right": "right_kidney", "spleen": "spleen"}
    assert found.member("chests").classes == {"Spleen": "spleen"}
    assert found.member("skins").classes == {"lesion": "skins_lesion"}
    assert len(found.training) == 3 + 6 + 3
    first = found.training[0]
    assert (first.id, first.patient) == ("heads/case_000", "heads/case_000")
    assert first.images[0].is_file()
    assert found.modality == "MR, X-ray, dermoscopy"
    stored = json.loads((datasets / NAME / "dataset.json").read_text())
    assert {"class": "spleen", "names": {"chests": ["Spleen"], "heads": ["spleen"]}} in stored["merged"]


def test_names_are_merged_where_the_file_leaves_them_out(datasets: Path) -> None:
    edit(datasets / NAME, sources=[{"dataset": "heads"}, {"dataset": "chests"}], labels={})
    found = open_dataset(datasets / NAME)
    assert found.labels == {"right_kidney": 1, "spleen": 2}
    edit(datasets / NAME, labels={"background": 0, "Spleen": 1, "RK": 2})
    found = open_dataset(datasets / NAME)
    assert found.member("heads").classes == {"kidney_right": "RK", "spleen": "Spleen"}


def test_every_mistake_in_the_file_is_said_at_once(datasets: Path) -> None:
    edit(
        datasets / NAME,
        sources=[
            {"dataset": "heads", "classes": {"spleen": "splen"}},
            {"dataset": "heads", "classes": {}, "weight": -1},
            {"classes": {}},
            {"dataset": "skins", "slice_axis": "w"},
        ],
        split={"held_out": 2},
    )
    with pytest.raises(MedMoEError) as found:
        open_dataset(datasets / NAME)
    text = "\n".join(lines(found.value))
    for words in ("'splen', which is no label", "weight' is -1", "sources[2]", "slice_axis' is 'w'", "more than once"):
        assert words in text, (words, text)
    assert "split.held_out" in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"dataset": "haeds"}, "unknown member 'haeds'"),
        ({"dataset": NAME}, "unknown member"),
        ({"dataset": "heads", "classes": {"kidney": "spleen"}}, "has no class 'kidney'"),
        ({"dataset": "heads", "classes": {}}, "none of the classes"),
    ],
)
def test_members_that_do_not_fit_are_refused(datasets: Path, source: dict[str, object], words: str) -> None:
    edit(datasets / NAME, sources=[source])
    with pytest.raises(DataError, match=words):
        open_dataset(datasets / NAME)


def test_a_collection_is_no_member_of_another(datasets: Path) -> None:
    (datasets / "outer").mkdir()
    (datasets / "outer" / "dataset.json").write_text(json.dumps({"labels": {}, "sources": [{"dataset": NAME}]}))
    with pytest.raises(DataError, match="is a collection"):
        open_dataset(datasets / "outer")


def test_a_selection_is_read_and_its_mistakes_are_named(datasets: Path) -> None:
    path = datasets / NAME / "selection.csv"
    path.write_text(
        "member,case,slice,class,score\nheads,case_000,2,spleen,0.9\nheads,case_000,2,right_kidney,0.8\n"
        "chests,case_001,0,spleen,0.5\n"
    )
    found = open_dataset(datasets / NAME)
    assert found.member("heads").selection == {"case_000": {2: frozenset({"spleen", "right_kidney"})}}
    assert found.member("skins").selection == {}
    path.write_text(
        "member,case,slice,class\nhaeds,case_000,2,spleen\nheads,case_000,x,spleen\nchests,case_000,0,right_kidney\n"
    )
    with pytest.raises(MedMoEError) as wrong:
        open_dataset(datasets / NAME)
    text = "\n".join(lines(wrong.value))
    for words in ("line 2", "'haeds'", "slice 'x' is no number", "'chests' does not label 'right_kidney'"):
        assert words in text
    path.write_text("member,case,slice,class\nheads,nobody,2,spleen\n")
    with pytest.raises(DataError, match="cases that are not there"):
        open_dataset(datasets / NAME)
    path.write_text("member,case\n")
    with pytest.raises(DataError, match="not a selection"):
        open_dataset(datasets / NAME)


def test_a_tenth_of_every_members_patients_is_held_out(tmp_path: Path) -> None:
    folder = make_collection(tmp_path)
    make_dataset(
        tmp_path / "heads", cases=24, shape=(8, 8, 2), class_names=("kidney_right", "spleen"), cases_per_patient=2
    )
    dataset = open_dataset(folder)
    (fold,) = all_splits(dataset, folder=tmp_path / "made")
    patients = {case.id: case.patient for case in dataset.training}
    assert not {patients[case] for case in fold.train} & {patients[case] for case in fold.validation}
    assert set(fold.train) | set(fold.validation) == set(patients)
    held_out = {name: [case for case in fold.validation if case.startswith(f"{name}/")] for name in MEMBERS}
    assert {name: len(cases) for name, cases in held_out.items()} == {"heads": 2, "chests": 1, "skins": 1}
    written = json.loads((tmp_path / "made" / "splits_final.json").read_text())
    assert written == [{"train": list(fold.train), "val": list(fold.validation)}]
    edit(folder, split={"seed": 1})
    assert all_splits(open_dataset(folder))[0] != fold


def test_an_official_split_of_a_member_goes_first(tmp_path: Path) -> None:
    folder = make_collection(tmp_path, cases=4)
    official = [{"train": ["case_000", "case_001"], "val": ["case_002"]}]
    (tmp_path / "heads" / "splits_final.json").write_text(json.dumps(official))
    fold = split(open_dataset(folder), 0)
    assert [case for case in fold.validation if case.startswith("heads/")] == ["heads/case_002"]
    assert "heads/case_003" not in (*fold.train, *fold.validation)
    edit(folder, split={"official": False})
    fold = split(open_dataset(folder), 0)
    assert "heads/case_003" in (*fold.train, *fold.validation)


def test_another_patient_moves_no_one_else_about() -> None:
    names = [f"patient {number}" for number in range(40)]
    some = held_out_patients(names, share=0.25, seed=3)
    assert len(some) == 10
    without = next(name for name in names if name not in some)
    assert held_out_patients([name for name in names if name != without], share=0.25, seed=3) == some
    assert held_out_patients(["alone"], share=0.1, seed=0) == frozenset()
    assert len(held_out_patients(["one", "two"], share=0.1, seed=0)) == 1


def test_check_looks_at_every_member_and_names_it(datasets: Path) -> None:
    workspace = Workspace(root=datasets.parent, origin="test")
    clean = run_check(workspace=workspace, data=NAME, workers=1, reporter=Silent())
    assert clean.exit_code == 0, clean.report.findings
    assert [report.dataset for report in clean.members] == list(MEMBERS)
    assert clean.report.num_training == 12
    again = ensure_checked(workspace=workspace, data=NAME, workers=1, reporter=Silent())
    assert not again.fresh
    (datasets / "skins" / "labelsTr" / "case_001.png").unlink()
    broken = run_check(workspace=workspace, data=NAME, workers=1, reporter=Silent())
    assert {finding.code for finding in broken.report.errors} == {"label-missing"}
    assert broken.report.errors[0].case == "skins/case_001"
    with pytest.raises(DataError):
        ensure_checked(workspace=workspace, data=NAME, workers=1, reporter=Silent())


def test_check_finds_what_is_wrong_with_the_collection_itself(datasets: Path) -> None:
    workspace = Workspace(root=datasets.parent, origin="test")

    def codes() -> set[str]:
        report = run_check(workspace=workspace, data=NAME, workers=1, reporter=Silent()).report
        return {finding.code for finding in report.errors}

    (datasets / NAME / "selection.csv").write_text("member,case,slice,class\nheads,nobody,2,spleen\n")
    assert codes() == {"selection-invalid"}
    (datasets / NAME / "selection.csv").unlink()
    (datasets / NAME / "splits_final.json").write_text('[{"train": ["heads/case_000"], "val": ["heads/nobody"]}]')
    assert codes() == {"splits-unknown-case"}
    (datasets / NAME / "splits_final.json").unlink()
    edit(datasets / NAME, sources=[{"dataset": "heads"}, {"dataset": "gone"}])
    assert codes() == {"member-missing"}
    edit(datasets / NAME, sources=[{"dataset": "heads", "classes": {"hat": "spleen"}}])
    assert codes() == {"member-classes"}
    edit(datasets / NAME, sources=[{"dataset": "heads", "weight": "much"}])
    assert codes() == {"json-key"}
