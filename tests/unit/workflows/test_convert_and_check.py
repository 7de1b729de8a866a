"""convert and check as verbs: what they write beside their output, their exit codes, tables and JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import ProblemList
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.workers import each
from medmoe_cli.core.workflows import check as check_workflow
from medmoe_cli.core.workflows.check import ensure_checked, run_check
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.converting import convert, workspace_of
from tests.tools.datasets import make_dataset
from tests.tools.faults import seed_faults
from tests.tools.sources import make_imed361m, make_msd, make_pictures


def ws(tmp_path: Path) -> list[str]:
    return ["--workspace", str(tmp_path / "ws")]


def test_run_json_of_a_conversion(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    (source / "labelsTr" / "prostate_01.nii.gz").write_bytes(b"")
    result = convert(tmp_path, source, "msd")
    run = json.loads((result.written.root / "run.json").read_text())
    assert (run["verb"], run["exit_code"]) == ("convert", 6)
    assert run["arguments"]["format"] == "msd"
    assert [case["status"] for case in run["cases"]] == ["ok", "failed", "ok", "ok"]
    image = source / "imagesTr" / "prostate_00.nii.gz"
    assert run["inputs_sha256"][str(image)] == file_sha256(image)
    assert any("prostate_01" in warning for warning in run["warnings"])
    assert run["outputs"] == [str(result.written.root)]


def test_a_check_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_of(tmp_path)
    root = make_dataset(workspace.datasets / "ds")
    first = run_check(workspace=workspace, data="ds", workers=1, reporter=Silent())
    assert (first.exit_code, first.report.findings) == (0, ())
    folder = workspace.preprocessed / "ds"
    assert json.loads((folder / "check.json").read_text())["findings"] == []
    assert json.loads((folder / "run.json").read_text())["verb"] == "check"

    looks: list[int] = []

    def counted(*arguments: object, **keywords: object) -> object:
        looks.append(1)
        return check_dataset(*arguments, **keywords)

    check_dataset = check_workflow.check_dataset
    monkeypatch.setattr(check_workflow, "check_dataset", counted)
    again = ensure_checked(workspace=workspace, data="ds", workers=1, reporter=Silent())
    assert not again.fresh
    assert again.report == first.report
    assert looks == []
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(Exception, match="no label labelsTr/case_001") as caught:
        ensure_checked(workspace=workspace, data="ds", workers=1, reporter=Silent())
    assert caught.value.exit_code == 3  # type: ignore[attr-defined]
    assert looks == [1]
    with pytest.raises(Exception, match="no label"):
        ensure_checked(workspace=workspace, data="ds", workers=1, reporter=Silent())
    assert looks == [1]


def test_ensure_checked_raises_all_errors_and_no_warning(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    seed_faults(workspace.datasets / "ds")
    result = run_check(workspace=workspace, data="ds", workers=1, reporter=Silent())
    with pytest.raises(ProblemList) as caught:
        ensure_checked(workspace=workspace, data="ds", workers=1, reporter=Silent())
    assert len(caught.value.problems) == len(result.report.errors) < len(result.report.findings)


def test_check_on_the_command_line(tmp_path: Path) -> None:
    root = seed_faults_in(tmp_path)
    ran = medmoe_here("check", "ds", "--workers", "1", *ws(tmp_path))
    assert ran.code == 3
    assert "label-direction" in ran.out
    assert "case_013" in ran.out
    ran = medmoe_here("check", str(root), "--json", "--workers", "1", *ws(tmp_path))
    assert ran.code == 3
    content = json.loads(ran.out)
    assert content["exit_code"] == 3
    one = next(finding for finding in content["findings"] if finding["code"] == "label-spacing")
    assert (one["severity"], one["case"], one["file"]) == ("error", "case_011", "labelsTr/case_011.nii.gz")
    assert one["fix"]


def seed_faults_in(tmp_path: Path) -> Path:
    root = workspace_of(tmp_path).datasets / "ds"
    seed_faults(root)
    return root


def test_a_clean_check_on_the_command_line(tmp_path: Path) -> None:
    make_dataset(workspace_of(tmp_path).datasets / "livers")
    ran = medmoe_here("check", "livers", *ws(tmp_path))
    assert ran.code == 0
    assert "0 errors, 0 warnings" in ran.out
    assert "next: medmoe plan livers" in ran.err
    ran = medmoe_here("check", "liver", *ws(tmp_path))
    assert_one_line_error(ran, 3, "unknown dataset 'liver'", "did you mean 'livers'")


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = medmoe_here("check", tmp_path / "empty", *ws(tmp_path))
    assert_one_line_error(ran, 3, "it has no dataset.json", "medmoe convert")


def test_convert_on_the_command_line(tmp_path: Path) -> None:
    source = make_imed361m(tmp_path / "BTCV")
    ran = medmoe_here("convert", source, "--format", "imed361m", "--name", "btcv", *ws(tmp_path))
    assert ran.code == 0
    assert "3 training, 1 test" in ran.out
    assert "kidney_right" in ran.out
    assert "image/ABD_008_10.png: not listed" in ran.out
    assert "next: medmoe check btcv" in ran.err
    ran = medmoe_here("convert", source, "--format", "imed361m", "--name", "btcv", *ws(tmp_path))
    assert_one_line_error(ran, 2, "the dataset exists", "--overwrite")
    ran = medmoe_here(
        "convert",
        source,
        "--format",
        "imed361m",
        "--name",
        "btcv",
        "--overwrite",
        "--json",
        "--limit",
        "2",
        *ws(tmp_path),
    )
    content = json.loads(ran.out)
    assert (content["training"], content["exit_code"]) == (2, 0)
    assert [row["name"] for row in content["classes"]] == ["spleen", "kidney_right", "liver"]


def test_failed_cases_end_with_6(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", channels=1)
    path = source / "imagesTr" / "prostate_02.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    ran = medmoe_here("convert", source, "--format", "msd", "--name", "ds", *ws(tmp_path))
    assert ran.code == 6
    assert "truncated file" in ran.out
    assert (tmp_path / "ws" / "datasets" / "ds" / "dataset.json").is_file()


def test_folder_options_on_the_command_line(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "src")
    ran = medmoe_here(
        "convert", source, "--format", "folder", "--name", "cxr", "--images", "images", "--labels", "masks",
        "--label-suffix", "_mask", "--label-map", "255:1", "--label-names", "lung", "--modality", "X-ray",
        "--patient-regex", r"(scan)_\d", *ws(tmp_path),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    content = json.loads((tmp_path / "ws" / "datasets" / "cxr" / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lung": 1}
    assert content["modality"] == {"0": "X-ray"}
    assert set(content["patients"].values()) == {"scan"}
    ran = medmoe_here("convert", source, "--format", "folder", "--name", "b", "--label-map", "255=1", *ws(tmp_path))
    assert_one_line_error(ran, 2, "bad --label-map '255=1'")
    ran = medmoe_here("convert", source, "--name", "b", *ws(tmp_path))
    assert_one_line_error(ran, 2, "no --format", "looks like folder")
    ran = medmoe_here("convert", source, "--format", "folder", *ws(tmp_path))
    assert_one_line_error(ran, 2, "missing --name")
    ran = medmoe_here("convert", source, "--format", "folder", "--name", "b", "--label-sufix", "_m", *ws(tmp_path))
    assert_one_line_error(ran, 2, "did you mean '--label-suffix'")


def test_the_list_of_formats(tmp_path: Path) -> None:
    rows = json.loads(medmoe_here("convert", "--list", "--json", *ws(tmp_path)).out)
    assert {"msd", "nnunet", "imed361m", "ssl4mis-h5", "sam-med3d", "dicom", "folder"} <= {row["name"] for row in rows}
    layouts = {"nnunet", "folder", "dicom"}  # no release: whose data it is, only the user knows
    for row in rows:
        assert row["description"]
        assert row["modality"]
        if row["name"] not in layouts:
            assert all(row[key] for key in ("classes", "licence", "obtain")), row["name"]
    table = medmoe_here("convert", "--list", *ws(tmp_path)).out
    assert "where to get it" in table
    assert "medicaldecathlon.com" in table


def test_converted_sources_pass_the_check(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    for name, source, form in (
        ("a", make_msd(tmp_path / "a", channels=3), "msd"),
        ("b", make_imed361m(tmp_path / "b"), "imed361m"),
        ("c", make_pictures(tmp_path / "c", soft=True, colour=True), "folder"),
    ):
        convert(tmp_path, source, form, name=name)
        shutil.rmtree(source)
        report = run_check(workspace=workspace, data=name, workers=1, reporter=Silent()).report
        # IMed-361M splits slices, not patients: the same patient is in training and test here.
        assert {finding.code for finding in report.findings} <= ({"patient-train-test"} if name == "b" else set())


def test_one_worker_stays_in_this_process() -> None:
    seen: list[int] = []
    assert list(each(lambda item: seen.append(item) or item, [1, 2], workers=1, name=str)) == [1, 2]
    assert seen == [1, 2]
