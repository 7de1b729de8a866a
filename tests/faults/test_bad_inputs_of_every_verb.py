"""Every verb on what users really give: empty folders, cut files, text, other grids, wrong names.

One line that starts with 'error:', the right exit code, no traceback, and nothing half-written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import make_dataset, write_nifti
from tests.tools.models import untrained_model

KINDS = ("empty", "cut", "text", "absent")


@pytest.fixture(params=KINDS)
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder (or none) that holds nothing usable."""
    folder = tmp_path / "bad"
    if request.param == "absent":
        return folder
    folder.mkdir()
    if request.param == "text":
        (folder / "scan.nii.gz").write_text("not an image")
    if request.param == "cut":
        write_nifti(folder / "scan.nii.gz", np.random.default_rng(0).integers(0, 99, (20, 20, 9), np.int16), np.eye(4))
        whole = (folder / "scan.nii.gz").read_bytes()
        (folder / "scan.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(tmp_path: Path, *arguments: object) -> Ran:
    return medmoe_here("--workspace", home(tmp_path), *(str(argument) for argument in arguments))


def untouched(tmp_path: Path) -> bool:
    """Nothing was written under the workspace or the output folder, not even an empty folder's worth of files."""
    written = [path for folder in (home(tmp_path), tmp_path / "out") for path in folder.rglob("*") if path.is_file()]
    return not [path for path in written if path.name not in {"run.json", ".lock"}]


@pytest.mark.parametrize(
    "verb",
    [
        ["convert", "BAD", "--format", "folder", "--name", "x"],
        ["convert", "BAD", "--format", "msd", "--name", "x"],
        ["convert", "BAD", "--format", "nnunet", "--name", "x"],
        ["convert", "BAD", "--format", "imed361m", "--name", "x"],
        ["convert", "BAD", "--format", "sam-med3d", "--name", "x"],
        ["convert", "BAD", "--format", "ssl4mis-h5", "--spacing", "1", "1", "1", "--name", "x"],
        ["check", "BAD"],
        ["plan", "BAD", "--method", "segmote"],
        ["preprocess", "BAD", "--method", "segmote"],
        ["train", "--method", "segmote", "--data", "BAD"],
        ["predict", "-i", "BAD", "-o", "OUT", "-m", "MODEL"],
        ["evaluate", "-p", "BAD", "-g", "BAD", "-o", "OUT"],
    ],
    ids=lambda verb: "-".join(part for part in verb if part.isalnum() and part.islower())[:24],
)
def test_data_verbs_refuse_what_holds_no_data(tmp_path: Path, bad: Path, verb: list[str]) -> None:
    model = untrained_model(tmp_path / "model", labels={"organ": 1}) if "MODEL" in verb else None
    names = {"BAD": bad, "OUT": tmp_path / "out", "MODEL": model}
    ran = run(tmp_path, *(names.get(part, part) for part in verb))
    assert_one_line_error(ran, 3, "fix:")
    assert untouched(tmp_path)


@pytest.mark.parametrize("kind", ["cut", "text"])
def test_weights_that_are_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sam_vit_b.pth"
    path.write_bytes(b"PK\x03\x04half a zip" if kind == "cut" else b"hello")
    assert_one_line_error(run(tmp_path, "models", "add", "sam-vit-b", path), 4, "sam_vit_b.pth")
    assert untouched(tmp_path)


def test_unknown_names_have_the_right_code_and_a_suggestion(tmp_path: Path) -> None:
    make_dataset(home(tmp_path) / "datasets" / "liver", cases=2)
    cases = {
        3: [
            ["check", "livr"],
            ["plan", "livr", "--method", "segmote"],
            ["train", "--method", "segmote", "--data", "livr"],
        ],
        2: [
            ["train", "--method", "segmotte", "--data", "liver"],
            ["train", "--method", "segmote", "--data", "liver", "--preset", "segmote-tyny"],
            ["plan", "liver", "--method", "segmote", "--preset", "segmote-tyny"],
            ["preprocess", "liver", "--method", "segmote", "--preset", "segmote-tyny"],
            ["convert", tmp_path, "--format", "nnunett", "--name", "x"],
            ["models", "add", "sam-vit-bb", tmp_path],
            ["train", "--method", "segmote", "--data", "liver", "--preset", "segmote-tiny", "--set", "train.epoch=3"],
        ],
        4: [["models", "show", "sam-vit-bb"]],
    }
    for code, commands in cases.items():
        for command in commands:
            assert_one_line_error(run(tmp_path, *command), code, "did you mean")


def test_labels_of_another_grid_are_found_before_work_starts(tmp_path: Path) -> None:
    root = make_dataset(home(tmp_path) / "datasets" / "shifted", cases=3)
    label = next((root / "labelsTr").glob("*.nii.gz"))
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[0, 3] = 300
    write_nifti(label, np.ones((24, 20, 12), np.uint8), affine)
    ran = run(tmp_path, "check", "shifted", "--json")
    assert ran.code == 3
    report = json.loads(ran.out)
    assert any("300" in finding["message"] for finding in report["findings"])
    ran = run(tmp_path, "train", "--method", "segmote", "--data", "shifted", "--preset", "segmote-tiny")
    assert ran.code == 3
    assert not (home(tmp_path) / "runs").exists()
    ran = run(tmp_path, "evaluate", "-p", label, "-g", sorted((root / "labelsTr").glob("*.nii.gz"))[1])
    assert ran.code == 3
    assert "300 mm" in ran.err


def test_an_output_that_is_a_file_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "a.nii.gz", np.zeros((8, 8, 2), np.float32), np.eye(4))
    model = untrained_model(tmp_path / "model", labels={"organ": 1})
    (tmp_path / "out").write_text("mine")
    ran = run(tmp_path, "predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model)
    assert_one_line_error(ran, 2, "not a folder")
    assert (tmp_path / "out").read_text() == "mine"
    (tmp_path / "file").write_text("")
    ran = run(tmp_path, "predict", "-i", tmp_path / "scans", "-o", tmp_path / "file" / "out", "-m", model)
    assert_one_line_error(ran, 5, "cannot write")
