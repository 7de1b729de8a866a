"""`medmoe predict` as a user types it, with an untrained model: what it writes, refuses, resumes and reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.datasets import write_nifti, write_picture
from tests.tools.models import untrained_model

AFFINE = np.array([[0, -1.5, 0, 30], [1.5, 0, 0, -20], [0, 0, 4.0, 5], [0, 0, 0, 1]], float)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_model(tmp_path_factory.mktemp("models") / "two", labels={"liver": 1, "spleen": 2})


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_model(tmp_path_factory.mktemp("models") / "one", labels={"lung": 1})


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        write_nifti(tmp_path / "scans" / f"scan{number}.nii.gz", rng.random((40, 32, 5)).astype(np.float32), AFFINE)
    return tmp_path / "scans"


def boxes(tmp_path: Path, *cases: str, label: str = "liver") -> Path:
    entry = [{"label": label, "box": [5, 5, 1, 30, 25, 3]}]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"schema": 1, "space": "voxel", "axes": "xyz", "cases": dict.fromkeys(cases, entry)}))
    return path


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_masks_have_the_scans_space_and_by_products_lie_beside_them(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    prompts = boxes(tmp_path, "scan0", "scan1", "scan2")
    ran = medmoe_here(
        "predict", "-i", scans, "-o", out, "-m", model, "--prompts", prompts,
        "--preview", "--statistics", "--save-probabilities",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "next: medmoe evaluate" in ran.err
    for number in range(3):
        scan, mask = (nib.load(folder / f"scan{number}.nii.gz") for folder in (scans, out))
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert mask.shape == scan.shape
        assert mask.header["qform_code"] == scan.header["qform_code"]
        assert mask.header["sform_code"] == scan.header["sform_code"]
        assert mask.header.get_xyzt_units() == scan.header.get_xyzt_units()
        assert mask.get_data_dtype() == np.uint8
        assert set(np.unique(voxels(out / f"scan{number}.nii.gz")).tolist()) <= {0, 1}
        assert (out / "previews" / f"scan{number}.png").stat().st_size > 5000
        probability = voxels(out / "probabilities" / f"scan{number}_liver.nii.gz")
        assert probability.shape == scan.shape
        np.testing.assert_array_equal(probability > 0.5, voxels(out / f"scan{number}.nii.gz") == 1)
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["scan0"]["liver"]["num_voxels"] == int((voxels(out / "scan0.nii.gz") == 1).sum())
    record = json.loads((out / "run.json").read_text())
    assert record["exit_code"] == 0
    assert [case["status"] for case in record["cases"]] == ["ok"] * 3
    assert not list(out.glob(".tmp-*"))


def test_alone_in_a_batch_and_in_another_order_the_mask_is_the_same(model: Path, scans: Path, tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    assert medmoe_here("predict", "-i", scans, "-o", together, "-m", model).code == 0
    for name in ("scan2", "scan0", "scan1"):
        assert medmoe_here("predict", "-i", scans / f"{name}.nii.gz", "-o", alone, "-m", model).code == 0
        np.testing.assert_array_equal(voxels(alone / f"{name}.nii.gz"), voxels(together / f"{name}.nii.gz"))


def test_the_same_command_again_does_nothing_and_a_missing_mask_is_made(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    command = ("predict", "-i", scans, "-o", tmp_path / "m", "-m", model, "--json")
    first = json.loads(medmoe_here(*command).out)
    (tmp_path / "m" / "scan1.nii.gz").unlink()
    again = json.loads(medmoe_here(*command).out)
    assert [case["status"] for case in first["cases"]] == ["ok", "ok", "ok"]
    assert [case["status"] for case in again["cases"]] == ["cached", "ok", "cached"]


def test_masks_of_other_settings_are_not_replaced_unasked(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    assert medmoe_here("predict", "-i", scans, "-o", out, "-m", model).code == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}
    ran = medmoe_here("predict", "-i", scans, "-o", out, "-m", model, "--text", "liver")
    assert ran.code == 2
    assert len(ran.error_lines) == 3
    assert "--overwrite" in ran.error_lines[0]
    assert {path.name: path.read_bytes() for path in out.glob("*.nii.gz")} == before
    assert medmoe_here("predict", "-i", scans, "-o", out, "-m", model, "--text", "liver", "--overwrite").code == 0


def test_a_foreign_mask_in_the_output_folder_is_not_replaced(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    write_nifti(out / "scan1.nii.gz", np.zeros((2, 2, 2), np.uint8), AFFINE)
    assert_one_line_error(medmoe_here("predict", "-i", scans, "-o", out, "-m", model), 2, "scan1", "--overwrite")
    assert not (out / "scan0.nii.gz").exists()


def test_shards_cover_every_case_once(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    seen = []
    for part in (1, 2):
        ran = medmoe_here("predict", "-i", scans, "-o", out, "-m", model, "--shard", f"{part}/2", "--json")
        seen += [case["id"] for case in json.loads(ran.out)["cases"]]
    assert sorted(seen) == ["scan0", "scan1", "scan2"]
    assert_one_line_error(medmoe_here("predict", "-i", scans, "-o", out, "-m", model, "--shard", "4/4"), 3, "empty")
    assert_one_line_error(medmoe_here("predict", "-i", scans, "-o", out, "-m", model, "--shard", "3/2"), 2, "--shard")


def test_one_bad_scan_fails_alone(model: Path, scans: Path, tmp_path: Path) -> None:
    whole = (scans / "scan1.nii.gz").read_bytes()
    (scans / "scan1.nii.gz").write_bytes(whole[: len(whole) // 2])
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", model)
    assert ran.code == 6
    assert "scan1" in ran.err
    assert sorted(path.name for path in (tmp_path / "m").glob("*.nii.gz")) == ["scan0.nii.gz", "scan2.nii.gz"]
    record = json.loads((tmp_path / "m" / "run.json").read_text())
    assert [case["status"] for case in record["cases"]] == ["ok", "failed", "ok"]
    assert record["exit_code"] == 6


def test_masks_as_prompts_and_class_names(model: Path, scans: Path, tmp_path: Path) -> None:
    truth = np.zeros((40, 32, 5), np.uint8)
    truth[10:20, 10:20, 2] = 2
    for number in range(3):
        write_nifti(tmp_path / "truth" / f"scan{number}.nii.gz", truth, AFFINE)
    for kind, clicks in (("box", "2"), ("point", "3"), ("mask", "0")):
        out = tmp_path / kind
        ran = medmoe_here(
            "predict", "-i", scans, "-o", out, "-m", model, "--prompts-from", tmp_path / "truth",
            "--prompt-type", kind, "--clicks", clicks,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        labels = voxels(out / "scan0.nii.gz")
        assert set(np.unique(labels).tolist()) <= {0, 2}
        assert not labels[..., [0, 1, 3, 4]].any()


def test_without_prompts_a_model_of_several_classes_looks_for_each_by_name(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    assert medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", model).code == 0
    receipt = json.loads((tmp_path / "m" / ".medmoe" / "scan0.json").read_text())
    assert receipt["requests"] == 2 * 5
    named = tmp_path / "named"
    assert (
        medmoe_here("predict", "-i", scans, "-o", named, "-m", model, "--text", "liver", "--text", "spleen").code == 0
    )
    np.testing.assert_array_equal(voxels(tmp_path / "m" / "scan0.nii.gz"), voxels(named / "scan0.nii.gz"))


def test_a_binary_model_needs_no_prompt_and_pictures_come_back_as_pictures(binary: Path, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_picture(tmp_path / "in" / f"{name}.png", rng.integers(0, 255, (50, 30), dtype=np.uint8))
    ran = medmoe_here("predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "-m", binary)
    assert ran.code == 0, ran.err
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert mask.shape == (30, 50)
    assert set(np.unique(mask).tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not valid JSON"),
        ('{"space": "voxel", "cases": {"other": [{"label": "liver", "box": [0,0,0,1,1,1]}]}}', "no scan"),
        ('{"space": "voxel", "cases": {"scan0": [{"label": "livr", "box": [0,0,0,1,1,1]}]}}', "liver"),
        ('{"space": "voxel", "cases": {"scan0": [{"label": "liver", "points": [[90,0,0,1]]}]}}', "outside"),
        ('{"space": "pixel", "cases": {}}', "voxel"),
    ],
)
def test_bad_prompts_are_one_line(model: Path, scans: Path, tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "p.json").write_text(content.replace("{", '{"schema": 1, ', 1) if len(content) > 1 else content)
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", model, "--prompts", tmp_path / "p.json")
    assert_one_line_error(ran, 3, word)
    assert not list((tmp_path / "m").glob("*.nii.gz"))


def test_options_that_exclude_each_other_and_models_that_are_none(model: Path, scans: Path, tmp_path: Path) -> None:
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", model, "--text", "liver", "--prompts", "x")
    assert_one_line_error(ran, 2, "exclude each other")
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", model, "--text", "livr")
    assert_one_line_error(ran, 2, "liver")
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", "nowhere")
    assert_one_line_error(ran, 4, "unknown model 'nowhere'")
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m")
    assert_one_line_error(ran, 4, "no trained model", "medmoe train")
    damaged = tmp_path / "damaged"
    shutil.copytree(model, damaged)
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (damaged / "model.safetensors").write_bytes(bytes(weights))
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", damaged)
    assert_one_line_error(ran, 4, "model.safetensors")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["empty", "text", "absent", "fake"])
def test_nothing_to_predict_is_never_success(model: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "in"
    if kind != "absent":
        source.mkdir()
    if kind == "text":
        (source / "readme.txt").write_text("hello")
    if kind == "fake":
        (source / "scan.nii.gz").write_text("hello")
    ran = medmoe_here("predict", "-i", source, "-o", tmp_path / "m", "-m", model)
    assert_one_line_error(ran, 3)
    assert not list((tmp_path / "m").glob("*.nii*"))


def test_a_dicom_series_comes_out_as_nifti_in_its_own_space(model: Path, real_data: Path, tmp_path: Path) -> None:
    ran = medmoe_here("predict", "-i", real_data / "dicom_ct", "-o", tmp_path / "m", "-m", model, "--text", "liver")
    assert ran.code == 0, ran.err
    (mask,) = (tmp_path / "m").glob("*.nii.gz")
    from medmoe_cli.core.imaging.read import read_geometry

    assert read_geometry(mask).differences(read_geometry(real_data / "dicom_ct")) == []
