"""What all formats share: archives, detection, dry runs, resuming, known slips and official folds."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, ProblemList
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters import registry
from medmoe_cli.core.data.converters.detect import detect
from medmoe_cli.core.data.converters.files import Reading, load_files
from medmoe_cli.core.data.converters.format import Format
from medmoe_cli.core.data.converters.source import Fold, SourceCase, Survey
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.splits import all_splits
from medmoe_cli.core.data.write_case import CaseWriter
from medmoe_cli.core.data.write_dataset import plan_dataset, unfinished, write_dataset
from medmoe_cli.core.workflows.check import run_check
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.converting import convert, dataset_json, lines_of, names, workspace_of
from tests.tools.datasets import phantom, write_nifti
from tests.tools.sources import AFFINE, make_imed361m, make_msd, make_pictures, nifti_array


def packed(source: Path, path: Path, *, top: bool = True) -> Path:
    """A folder as the archive that a release comes in, with and without a folder on top."""
    root = source.parent if top else source
    files = sorted(file for file in source.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(root))
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in files:
                archive.add(file, str(file.relative_to(root)))
    return path


def voxels(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): nifti_array(path).tobytes() for path in sorted(root.rglob("*.nii.gz"))}


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("name", ["Task05_Prostate.zip", "Task05_Prostate.tar.gz"])
def test_an_archive_converts_as_its_folder_does(tmp_path: Path, name: str, top: bool) -> None:
    source = make_msd(tmp_path / "in" / "Task05_Prostate")
    archive = packed(source, tmp_path / name, top=top)
    plain = convert(tmp_path, source, "msd", name="plain").written
    result = convert(tmp_path, archive, "auto", name="ds", workers=2)
    assert (result.format, result.exit_code) == ("msd", 0)
    assert voxels(result.written.root) == voxels(plain.root)
    assert names(result.written.root.parent) == ["ds", "plain"]
    inner = "Task05_Prostate/" if top else ""
    assert f"{archive}/{inner}imagesTr/prostate_00.nii.gz" in result.written.inputs
    assert any(note.startswith(f"unpacked {name}") for note in result.written.notes)
    assert any(note.startswith("found msd:") for note in result.written.notes)
    assert any(note.startswith("the layout begins at") for note in result.written.notes) == top


def test_failures_inside_an_archive_name_it_and_nothing_is_left(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "in" / "task")
    (source / "labelsTr" / "prostate_01.nii.gz").write_bytes(b"")
    archive = packed(source, tmp_path / "task.zip")
    result = convert(tmp_path, archive, "msd")
    (failed,) = result.written.failed
    assert f"{archive}/task/labelsTr/prostate_01.nii.gz" in failed.why
    assert ".tmp-" not in (result.written.root / "run.json").read_text()
    (source / "dataset.json").write_text("{")
    archive = packed(source, tmp_path / "broken.zip")
    with pytest.raises(DataError, match=r"broken\.zip") as caught:
        convert(tmp_path, archive, "msd", name="other")
    assert ".tmp-" not in caught.value.line()
    assert names(result.written.root.parent) == ["ds"]


def test_a_release_in_parts_is_unpacked_together(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "in")
    (tmp_path / "parts").mkdir()
    for part in ("images", "masks"):
        packed(source / part, tmp_path / "parts" / f"{part}.zip")
    (tmp_path / "parts" / "readme.txt").write_text("two parts")
    result = convert(tmp_path, tmp_path / "parts", "auto", label_names=("lung",))
    assert (result.format, result.written.training) == ("folder", 3)
    assert any("unpacked images.zip, masks.zip" in note for note in result.written.notes)


def test_what_a_killed_conversion_unpacked_is_swept(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    left = workspace_of(tmp_path).datasets / ".tmp-999999999-abcdef01-source"
    (left / "imagesTr").mkdir(parents=True)
    (left / "imagesTr" / "x.nii.gz").write_bytes(b"1")
    plan = convert(tmp_path, source, "msd", dry_run=True).written
    assert plan.planned
    assert names(left.parent) == []


def test_a_wrong_option_is_said_before_an_archive_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medmoe_cli.core.workflows import convert_source

    monkeypatch.setattr(convert_source, "unpack_release", lambda *_: pytest.fail("unpacked"))
    archive = packed(make_msd(tmp_path / "task"), tmp_path / "task.zip")
    with pytest.raises(ProblemList) as caught:
        convert(tmp_path, archive, "msd", subset=("ct",), label_scheme="samed")
    lines = lines_of(caught.value)
    assert "--subset does nothing for --format msd" in lines[0]
    assert "--label-scheme does nothing for --format msd" in lines[1]
    assert "synapse-transunet" in lines[1]


def test_detection_says_what_it_found_and_what_else_would_fit(tmp_path: Path) -> None:
    found = detect(make_msd(tmp_path / "outer" / "inner" / "task").parents[1])
    assert (found.format.name, found.root) == ("msd", tmp_path / "outer" / "inner" / "task")
    assert "training" in found.why
    assert "folder" in found.others or found.others == ()
    (tmp_path / "nothing" / "notes").mkdir(parents=True)
    (tmp_path / "nothing" / "notes" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"looks like no known format.*it holds a\.txt"):
        detect(tmp_path / "nothing")


def test_formats_that_fit_equally_well_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_msd(tmp_path / "task")
    twin = Format(
        name="twin", description="the other one", modality="", options=(), looks_like=lambda path: True,
        survey=registry.FORMATS["msd"].survey,
    )  # fmt: skip
    monkeypatch.setitem(registry.FORMATS, "twin", twin)
    with pytest.raises(ConfigError, match=r"msd, twin all fit.*twin: the other one.*--format msd or --format twin"):
        convert(tmp_path, source, "auto")


def test_values_that_a_format_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_msd(tmp_path / "task")
    known = registry.FORMATS["msd"]
    wide = replace(
        known, options=(*known.options, "subset", "label_scheme"), subsets=("ct", "mr"), label_schemes=("a",)
    )
    monkeypatch.setitem(registry.FORMATS, "msd", wide)
    with pytest.raises(ProblemList) as caught:
        convert(tmp_path, source, "msd", subset=("mri",), label_scheme="b")
    one, two = lines_of(caught.value)
    assert "unknown --subset 'mri': did you mean 'mr'?; msd knows ct, mr" in one
    assert "unknown --label-scheme 'b'" in two


def test_a_dry_run_says_what_would_be_and_writes_nothing(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "in" / "task")
    before = sorted(tmp_path.rglob("*"))
    plan = convert(tmp_path, packed(source, tmp_path / "in" / "task.zip"), "auto", dry_run=True, limit=3).written
    (tmp_path / "in" / "task.zip").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    assert (plan.planned, plan.found, plan.training, plan.test, plan.patients) == (True, 4, 3, 0, 3)
    assert [(row.name, row.value) for row in plan.classes] == [("PZ", 1), ("TZ", 2)]
    assert "--limit left 1 cases out" in plan.notes
    written = convert(tmp_path, source, "msd", limit=3).written
    assert (written.found, written.training, written.patients) == (plan.found, plan.training, plan.patients)


def test_auto_and_dry_run_on_the_command_line(tmp_path: Path) -> None:
    source = make_imed361m(tmp_path / "BTCV")
    where = ("--workspace", str(tmp_path / "ws"))
    ran = medmoe_here("convert", "auto", source, "--dry-run", "--limit", "3", "--overlap", "lower", *where)
    assert ran.code == 0, ran.err
    assert "found imed361m: a folder label/" in ran.out
    assert "would be converted" in ran.out
    assert "nothing was written" in ran.out
    assert f"next: medmoe convert {source} --format imed361m --name unnamed --limit 3 --overlap lower" in ran.err
    assert not (tmp_path / "ws").exists()
    ran = medmoe_here("convert", "auto", source, "--name", "a", "--json", *where)
    assert json.loads(ran.out)["format"] == "imed361m"
    ran = medmoe_here("convert", source, "--format", "auto", "--name", "b", *where)
    assert ran.code == 0, ran.err
    assert "label values, expected and seen" in ran.out
    assert "every label lies on its image's grid" in ran.out
    ran = medmoe_here("convert", "imed", source, "--name", "c", *where)
    assert_one_line_error(ran, 2, "unknown format 'imed'")
    ran = medmoe_here("convert", "msd", source, "--format", "auto", "--name", "c", *where)
    assert_one_line_error(ran, 2, "two formats, 'msd' and --format auto")


def test_run_json_and_json_hold_the_tables(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    (source / "labelsTr" / "prostate_01.nii.gz").unlink()
    ran = medmoe_here("convert", "msd", source, "--name", "ds", "--json", "--workspace", str(tmp_path / "ws"))
    said = json.loads(ran.out)
    run = json.loads((tmp_path / "ws" / "datasets" / "ds" / "run.json").read_text())
    assert {key: said[key] for key in run["results"]} == run["results"]
    assert [(row["value"], row["meaning"], row["becomes"]) for row in said["values"]] == [
        (0, "background", 0), (1, "PZ", 1), (2, "TZ", 2),
    ]  # fmt: skip
    root = tmp_path / "ws" / "datasets" / "ds"
    counted = [
        sum(int((nifti_array(path) == value).sum()) for path in (root / "labelsTr").iterdir()) for value in (0, 1, 2)
    ]
    assert [row["voxels"] for row in said["values"]] == counted
    assert said["found"] == said["training"] + said["test"] + len(said["skipped"]) + len(said["failed"])


def survey_of(folder: Path, *, values: tuple[tuple[int, ...], ...], **changes: object) -> Survey:
    """Cases whose labels hold the given source values, one block each; 'a', 'b', ..."""
    cases = []
    for number, present in enumerate(values):
        images, _ = phantom((8, 7, 6), seed=number)
        label = np.zeros((8, 7, 6), np.int32)
        for position, value in enumerate(present):
            label[position] = value
        case = "abcdefgh"[number]
        image_path, label_path = folder / f"{case}.nii.gz", folder / f"{case}_label.nii.gz"
        write_nifti(image_path, images[0].astype(np.int16), AFFINE)
        write_nifti(label_path, label, AFFINE)
        cases.append(
            SourceCase(
                id=case,
                patient=f"p{number // 2}",
                split="Tr",
                files=(image_path, label_path),
                load=partial(load_files, (image_path,), label_path, Reading()),
            )
        )
    survey = Survey(
        format="test",
        channels=("CT",),
        labels={"myocardium": 1, "atrium": 2},
        value_map={205: 1, 420: 2, 500: 0},
        file_ending=".nii.gz",
        cases=tuple(cases),
    )
    return replace(survey, **changes)  # type: ignore[arg-type]


def write(root: Path, survey: Survey, **arguments: object):  # type: ignore[no-untyped-def]
    given = {"overwrite": False, "workers": 1, "limit": None, "reporter": Silent(), **arguments}
    return write_dataset(root, survey, **given)  # type: ignore[arg-type]


def test_known_slips_are_mended_counted_and_said(tmp_path: Path) -> None:
    survey = survey_of(tmp_path / "src", values=((205, 420), (205, 421), (500,)), mended={421: 420, 206: 205})
    written = write(tmp_path / "ds", survey)
    assert written.failed == ()
    assert np.array_equal(np.unique(nifti_array(tmp_path / "ds" / "labelsTr" / "b.nii.gz")), [0, 1, 2])
    assert "value 421 is a known slip for 420 (atrium): mended, 42 voxels in 1 cases" in written.notes
    rows = {row.value: (row.meaning, row.becomes, row.mended, row.cases, row.voxels) for row in written.values}
    assert rows[421] == ("is a known slip for 420 (atrium)", 2, True, 1, 42)
    assert rows[500] == ("background", 0, False, 1, 42)
    assert 206 not in rows
    assert [(row.name, row.cases, row.voxels) for row in written.classes] == [("myocardium", 2, 84), ("atrium", 2, 84)]


def test_unknown_values_fail_their_case_with_what_was_found(tmp_path: Path) -> None:
    written = write(tmp_path / "ds", survey_of(tmp_path / "src", values=((205,), (205, 421, 77))))
    (failed,) = written.failed
    assert "77 (42 voxels), 421 (42 voxels); declared are 205, 420, 500" in failed.why


def test_official_folds_become_splits_final(tmp_path: Path) -> None:
    folds = (Fold(train=("a", "b"), val=("c", "d")), Fold(train=("c", "d"), val=("a", "b")))
    survey = survey_of(tmp_path / "src", values=((205,), (205,), (420,), (420,)), folds=folds)
    written = write(tmp_path / "ds", survey)
    assert (written.folds, written.split) == (
        2, "official folds in splits_final.json (the release's own): 2 train / 2 val, 2 train / 2 val",
    )  # fmt: skip
    assert json.loads((tmp_path / "ds" / "splits_final.json").read_text()) == [
        {"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["c", "d"], "val": ["a", "b"]},
    ]  # fmt: skip
    assert [fold.train for fold in all_splits(open_dataset(tmp_path / "ds"))] == [("a", "b"), ("c", "d")]
    assert plan_dataset(tmp_path / "x", survey, limit=None).split == written.split
    short = write(tmp_path / "short", survey, limit=3)
    assert json.loads((tmp_path / "short" / "splits_final.json").read_text())[0] == {"train": ["a", "b"], "val": ["c"]}
    assert short.folds == 2
    none = write(tmp_path / "none", survey, limit=2)
    assert (none.folds, (tmp_path / "none" / "splits_final.json").exists()) == (0, False)


class Stopping(Silent):
    """Ctrl-C after some cases."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after
        self.statuses: list[str] = []

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        self.statuses.append(status)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_finished_cases_are_taken_over_when_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = survey_of(tmp_path / "src", values=((205,), (205, 420), (420,), (420,)))
    root = tmp_path / "ds"
    with pytest.raises(KeyboardInterrupt):
        write(root, survey, reporter=Stopping(3))
    assert not root.exists()
    assert not (unfinished(root) / "dataset.json").exists()
    write_nifti(tmp_path / "src" / "b.nii.gz", np.full((8, 7, 6), 5, np.int16), AFFINE)  # its source changed
    (unfinished(root) / "labelsTr" / "c.nii.gz").write_bytes(b"damaged")
    heard = Stopping(0)
    written = write(root, survey, reporter=heard)
    assert heard.statuses == ["cached", "ok", "ok", "ok"]
    assert written.reused == 1
    assert not unfinished(root).exists()
    monkeypatch.setattr(CaseWriter, "_finished", lambda self, case: None)
    straight = write(tmp_path / "straight" / "ds", survey)
    assert voxels(root) == voxels(tmp_path / "straight" / "ds")
    assert (root / "dataset.json").read_text() == (tmp_path / "straight" / "ds" / "dataset.json").read_text()
    assert {**written.inputs} == {**straight.inputs}
    assert (written.classes, written.values) == (straight.classes, straight.values)


def test_other_rules_take_nothing_over_and_leave_nothing_behind(tmp_path: Path) -> None:
    survey = survey_of(tmp_path / "src", values=((205,), (205, 420), (420,)))
    root = tmp_path / "ds"
    with pytest.raises(KeyboardInterrupt):
        write(root, survey, reporter=Stopping(3))
    heard = Stopping(0)
    other = replace(survey, labels={"atrium": 1, "myocardium": 2}, value_map={205: 2, 420: 1, 500: 0})
    written = write(root, other, reporter=heard, limit=1)
    assert heard.statuses == ["ok"]
    assert written.reused == 0
    assert names(root) == ["dataset.json", "imagesTr", "labelsTr"]
    assert names(root / "labelsTr") == ["a.nii.gz"]


def test_a_second_conversion_to_the_same_name_waits_its_turn(tmp_path: Path) -> None:
    from medmoe_cli.core.base.errors import ResourceError
    from medmoe_cli.core.base.lock import exclusive

    root = tmp_path / "ds"
    with exclusive(unfinished(root)), pytest.raises(ResourceError, match="another medmoe is at work"):
        write(root, survey_of(tmp_path / "src", values=((205,),)))


def test_a_moved_or_repacked_archive_is_taken_up_too(tmp_path: Path) -> None:
    """The temporary folder of an archive has another name each time; its cases are known by the archive's."""
    source = make_msd(tmp_path / "in" / "task", cases=4)
    archive = packed(source, tmp_path / "task.zip")
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, archive, "msd", reporter=Stopping(2))
    folder = workspace_of(tmp_path).datasets
    assert names(folder) == [".converting-ds"]
    shutil.rmtree(source)
    assert convert(tmp_path, archive, "msd").written.reused == 2
    assert names(folder) == ["ds"]
    assert run_check(workspace=workspace_of(tmp_path), data="ds", workers=1, reporter=Silent()).report.findings == ()


def test_the_options_of_a_conversion_are_part_of_the_record(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", cases=3)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, source, "msd", reporter=Stopping(2))
    result = convert(tmp_path, source, "msd", patient_regex=r"(prost)ate_\d+")
    assert result.written.reused == 0
    assert set(dataset_json(result)["patients"].values()) == {"prost"}
