"""`medmoe evaluate` as a user meets it: numbers, files, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from tests.tools.cli import assert_one_line_error, medmoe, medmoe_here
from tests.tools.masks import label_maps

SHAPE = (14, 12, 9)
AFFINE = np.diag([-1.0, -1.5, 3.0, 1.0])


def _write(path: Path, labels: NDArray[np.integer], affine: NDArray[np.float64] = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`gt` and `pred` with four cases of two classes, named by the dataset.json beside `gt`."""
    for seed in range(4):
        reference, prediction = label_maps(seed, SHAPE, classes=2)
        _write(tmp_path / "data" / "gt" / f"case_{seed}.nii.gz", reference)
        _write(tmp_path / "pred" / f"case_{seed}.nii.gz", prediction)
    labels = {"background": 0, "liver": 1, "node": 2}
    patients = {"case_0": "p1", "case_1": "p1", "case_2": "p2", "case_3": "p3"}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"labels": labels, "patients": patients}))
    return tmp_path


def _evaluate(folders: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("evaluate", "-p", folders / "pred", "-g", folders / "data" / "gt", *more)


def test_writes_the_summary_and_the_run_beside_it(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ran = medmoe_here(*_evaluate(folders, "-o", folders / "out" / "summary.json"))
    assert ran.code == 0, ran.err
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["labels"] == {"1": "liver", "2": "node"}
    assert summary["n_cases"] == 4
    first, second = label_maps(0, SHAPE, classes=2)
    expected = 2 * ((first == 1) & (second == 1)).sum() / ((first == 1).sum() + (second == 1).sum())
    assert summary["metric_per_case"][0]["metrics"]["1"]["Dice"] == pytest.approx(expected)
    run = json.loads((folders / "out" / "run.json").read_text())
    assert run["verb"] == "evaluate"
    assert run["exit_code"] == 0
    assert [case["status"] for case in run["cases"]] == ["ok"] * 4
    assert len(run["inputs_sha256"]) == 8
    assert sorted(path.name for path in (folders / "out").iterdir()) == ["run.json", "summary.json"]
    for word in ("liver", "node", "all", "Dice", "HD95", "NSD", "ASSD", "95% CI"):
        assert word in ran.out
    assert "next: medmoe evaluate" in ran.err


def test_json_on_stdout_is_the_summary(folders: Path) -> None:
    ran = medmoe_here("--json", *_evaluate(folders, "-o", folders / "out"))
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == json.loads((folders / "out" / "summary.json").read_text())


def test_nothing_is_written_without_an_output(folders: Path) -> None:
    before = sorted(folders.rglob("*"))
    assert medmoe_here(*_evaluate(folders)).code == 0
    assert sorted(folders.rglob("*")) == before


def test_workers_change_nothing(folders: Path) -> None:
    one = medmoe_here("--json", *_evaluate(folders, "--workers", "1"))
    two = medmoe("--json", *(str(part) for part in _evaluate(folders, "-j", "2")))
    assert (one.code, two.code) == (0, 0), two.err
    assert json.loads(one.out) == json.loads(two.out)


@pytest.mark.parametrize("name", ["nnunet", "transunet", "segmote"])
def test_conventions(folders: Path, name: str) -> None:
    ran = medmoe_here("--json", *_evaluate(folders, "--convention", name))
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["convention"]["name"] == name


def test_prompt_free_names_from_values_and_other_endings(tmp_path: Path) -> None:
    """No dataset.json; PNG predictions of PNG references; a palette is no obstacle, distances are in pixels."""
    for name in ("a", "b"):
        reference = np.zeros((20, 30), np.uint8)
        reference[4:12, 5:20] = 3
        for folder, image in (("gt", reference), ("pred", np.roll(reference, 1, axis=1))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Picture.fromarray(image).save(tmp_path / folder / f"{name}.png")
    ran = medmoe_here("--json", "evaluate", "-p", tmp_path / "pred", "-g", tmp_path / "gt")
    assert ran.code == 0, ran.err
    summary = json.loads(ran.out)
    assert summary["labels"] == {"3": "3"}
    assert summary["mean"]["3"]["HD"] == 1
    assert "pixel" in ran.err


def test_tolerances(folders: Path) -> None:
    ran = medmoe_here("--json", *_evaluate(folders, "--tolerance-mm", "3", "--tolerance-mm", "node=0.5"))
    assert json.loads(ran.out)["tolerance_mm"] == {"1": 3.0, "2": 0.5}
    assert_one_line_error(medmoe_here(*_evaluate(folders, "--tolerance-mm", "nodes=1")), 2, "nodes", "node")
    assert_one_line_error(medmoe_here(*_evaluate(folders, "--tolerance-mm", "0")), 2, "--tolerance-mm")
    assert_one_line_error(medmoe_here(*_evaluate(folders, "--tolerance-mm", "liver=wide")), 2, "liver=wide")


def test_two_files(folders: Path) -> None:
    files = ("-p", folders / "pred" / "case_1.nii.gz", "-g", folders / "data" / "gt" / "case_2.nii.gz")
    ran = medmoe_here("--json", "evaluate", *files)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["n_cases"] == 1


def test_old_label_names_and_patients(folders: Path) -> None:
    """value -> name, as the Decathlon writes; given by --dataset."""
    other = folders / "msd"
    other.mkdir()
    (other / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "anterior", "2": "posterior"}}))
    ran = medmoe_here("--json", *_evaluate(folders, "--dataset", other))
    assert json.loads(ran.out)["labels"] == {"1": "anterior", "2": "posterior"}


def test_regions_and_ignore(folders: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 1, "ignore": 2}
    (folders / "data" / "dataset.json").write_text(json.dumps({"labels": labels}))
    ran = medmoe_here("--json", *_evaluate(folders))
    summary = json.loads(ran.out)
    assert summary["labels"] == {"1": "core", "(1, 2)": "whole"}
    reference, prediction = label_maps(0, SHAPE, classes=2)
    kept = reference != 2
    tn = (kept & (reference != 1) & (prediction != 1)).sum()
    assert summary["metric_per_case"][0]["metrics"]["1"]["TN"] == tn


def test_values_without_a_name_are_reported(folders: Path) -> None:
    (folders / "data" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    ran = medmoe_here(*_evaluate(folders))
    assert ran.code == 0
    assert "not scored: 2" in ran.err


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (np.diag([-1.0, -1.5, 3.1, 1.0]), "spacing"),
        (np.diag([1.0, -1.5, 3.0, 1.0]), "direction"),
        (AFFINE + np.array([[0, 0, 0, 2.0], [0] * 4, [0] * 4, [0] * 4]), "origin"),
    ],
)
def test_another_grid_is_refused(folders: Path, change: NDArray[np.float64], word: str) -> None:
    labels = label_maps(2, SHAPE, classes=2)[0]
    _write(folders / "pred" / "case_2.nii.gz", labels, change)
    ran = medmoe_here(*_evaluate(folders, "-o", folders / "out"))
    assert_one_line_error(ran, 3, "case_2.nii.gz", word, "--ignore-geometry")
    assert not (folders / "out").exists()
    ran = medmoe_here("--json", *_evaluate(folders, "--ignore-geometry"))
    assert ran.code == 0
    assert json.loads(ran.out)["metric_per_case"][2]["metrics"]["1"]["Dice"] == 1


def test_another_shape_is_refused_even_when_geometry_is_ignored(folders: Path) -> None:
    _write(folders / "pred" / "case_0.nii.gz", np.ones((14, 12, 8), np.uint8))
    ran = medmoe_here(*_evaluate(folders, "--ignore-geometry"))
    assert_one_line_error(ran, 3, "shape 14x12x8 against 14x12x9")


def test_every_problem_is_reported_at_once(folders: Path) -> None:
    (folders / "pred" / "case_0.nii.gz").rename(folders / "pred" / "case_0_mask.nii.gz")
    _write(folders / "pred" / "case_1.nii.gz", np.ones(SHAPE, np.uint8), np.eye(4))
    path = folders / "pred" / "case_2.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    (folders / "data" / "gt" / "case_3.nii.gz").write_text("not an image")
    ran = medmoe_here(*_evaluate(folders))
    assert ran.code == 3
    assert len(ran.error_lines) == 4
    text = "\n".join(ran.error_lines)
    for words in ("1 of 4 predictions are missing", "case_0", "case_0_mask", "case_1", "case_2", "case_3"):
        assert words in text


def test_truncated_voxels_alone(folders: Path) -> None:
    path = folders / "pred" / "case_3.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "case_3.nii.gz")


def test_probabilities_are_no_label_map(folders: Path) -> None:
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), folders / "pred" / "case_0.nii.gz")
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "case_0.nii.gz", "not a label map")


def test_missing_predictions(folders: Path) -> None:
    (folders / "pred" / "case_1.nii.gz").unlink()
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "1 of 4 predictions are missing", "case_1")
    ran = medmoe_here("--json", *_evaluate(folders, "--ignore-missing"))
    assert ran.code == 0
    assert json.loads(ran.out)["n_cases"] == 3
    assert "case_1" in ran.err


def test_extra_predictions_are_only_a_warning(folders: Path) -> None:
    shutil.copy(folders / "pred" / "case_1.nii.gz", folders / "pred" / "case_9.nii.gz")
    ran = medmoe_here(*_evaluate(folders))
    assert ran.code == 0
    assert "case_9" in ran.err


def test_zero_pairs(folders: Path) -> None:
    for path in list((folders / "pred").iterdir()):
        path.rename(path.with_name("x" + path.name))
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "xcase_0", "case_0")


def test_empty_and_absent_folders(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    gt = folders / "data" / "gt"
    assert_one_line_error(medmoe_here("evaluate", "-p", tmp_path / "empty", "-g", gt), 3, "no label maps", "empty")
    assert_one_line_error(medmoe_here("evaluate", "-p", tmp_path / "nowhere", "-g", gt), 3, "nowhere")
    data = medmoe_here("evaluate", "-p", folders / "pred", "-g", folders / "data")
    assert_one_line_error(data, 3, "no label maps", "gt")


def test_only_background(tmp_path: Path) -> None:
    for folder in ("gt", "pred"):
        _write(tmp_path / folder / "a.nii.gz", np.zeros(SHAPE, np.uint8))
    ran = medmoe_here("evaluate", "-p", tmp_path / "pred", "-g", tmp_path / "gt")
    assert_one_line_error(ran, 3, "only background")


def test_two_files_of_one_case(folders: Path) -> None:
    (folders / "pred" / "case_0.nii").write_bytes(b"")
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "two files for case 'case_0'")


def test_unknown_convention_and_dataset(folders: Path) -> None:
    assert_one_line_error(medmoe_here(*_evaluate(folders, "--convention", "medmo")), 2, "did you mean 'medmoe'")
    assert_one_line_error(medmoe_here(*_evaluate(folders, "--dataset", "btcv")), 3, "btcv")


def test_a_broken_dataset_file(folders: Path) -> None:
    (folders / "data" / "dataset.json").write_text('{"labels": {"liver": "one"}}')
    assert_one_line_error(medmoe_here(*_evaluate(folders)), 3, "dataset.json", "'liver'")


@pytest.mark.realdata
def test_real_labels_against_themselves_moved(real_data: Path, tmp_path: Path) -> None:
    """Hippocampi (some stored as float): exact agreement scores 1 and 0; one voxel off scores a millimetre."""
    found = sorted((real_data / "Task04_Hippocampus" / "labelsTr").glob("[!.]*.nii.gz"))[:3]
    (tmp_path / "same").mkdir()
    for path in found:
        shutil.copy(path, tmp_path / "same" / path.name)
        image = nib.load(path)
        moved = np.roll(np.asarray(image.dataobj).astype(np.uint8), 1, axis=0)
        (tmp_path / "moved").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(moved, None, image.header), tmp_path / "moved" / path.name)
    same = json.loads(medmoe_here("--json", "evaluate", "-p", tmp_path / "same", "-g", tmp_path / "same").out)
    assert same["foreground_mean"]["Dice"] == 1
    assert same["foreground_mean"]["HD"] == same["foreground_mean"]["ASSD"] == 0
    moved_by_one = medmoe_here("--json", "evaluate", "-p", tmp_path / "moved", "-g", tmp_path / "same")
    assert json.loads(moved_by_one.out)["foreground_mean"]["HD"] == pytest.approx(1, abs=1e-3)
