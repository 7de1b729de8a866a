"""Real scans all the way, with a training of a few steps: what is tested is where masks lie, not how good they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tools.cli import Ran, medmoe_here

SHORT = (
    *("--set", "plan.input_size=64"),
    *("--set", "model.width=48"),
    *("--set", "model.depth=2"),
    *("--set", "train.workers=0"),
    *("--set", "train.queries_per_image=2"),
    *("--steps", "2"),
)


def run(home: Path, *arguments: object) -> Ran:
    ran = medmoe_here("--workspace", home, *(str(argument) for argument in arguments))
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def hippocampus(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with ten hippocampus cases and a model trained on them for two steps."""
    source = tmp_path_factory.mktemp("msd") / "Task04_Hippocampus"
    content = json.loads((real_data / "Task04_Hippocampus" / "dataset.json").read_text())
    content["training"] = content["training"][:10]
    content["numTraining"] = 10
    for entry in content["training"]:
        for path in entry.values():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_data / "Task04_Hippocampus" / path, source / path)
    (source / "dataset.json").write_text(json.dumps(content))
    home = tmp_path_factory.mktemp("home")
    run(home, "convert", source, "--format", "msd", "--name", "hippo")
    run(home, "train", "--method", "segmote", "--data", "hippo", "--preset", "segmote-tiny", *SHORT)
    return home


def test_volumes_in_volumes_out(hippocampus: Path, tmp_path: Path) -> None:
    scans = hippocampus / "datasets" / "hippo" / "imagesTr"
    labels = hippocampus / "datasets" / "hippo" / "labelsTr"
    out = tmp_path / "masks"
    run(hippocampus, "predict", "-i", scans, "-o", out, "--prompts-from", labels)
    masks = sorted(out.glob("*.nii.gz"))
    assert len(masks) == 10
    for path in masks:
        mask, scan = nib.load(path), nib.load(scans / f"{path.name.removesuffix('.nii.gz')}_0000.nii.gz")
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)
        for code in ("qform_code", "sform_code", "xyzt_units"):
            assert mask.header[code] == scan.header[code], code
        assert set(np.unique(np.asarray(mask.dataobj)).tolist()) <= {0, 1, 2}
    summary = json.loads(run(hippocampus, "evaluate", "-p", out, "-g", labels, "--json").out)
    assert set(summary["mean"]) == {"1", "2"}
    assert len(summary["metric_per_case"]) == 10
    assert summary["mean"]["1"]["Dice"] > 0.3


def test_the_same_model_takes_a_dicom_series(hippocampus: Path, real_data: Path, tmp_path: Path) -> None:
    (series,) = (folder for folder in (real_data / "dicom_mr").iterdir() if folder.is_dir())
    run(hippocampus, "predict", "-i", real_data / "dicom_mr", "-o", tmp_path / "masks", "--text", "Anterior")
    (mask,) = (tmp_path / "masks").glob("*.nii.gz")
    from medmoe_cli.core.imaging.read import read_geometry

    assert read_geometry(mask).differences(read_geometry(series)) == []


def test_chest_x_rays_without_a_prompt(real_data: Path, tmp_path: Path) -> None:
    from PIL import Image

    home = tmp_path / "home"
    run(home, "convert", real_data / "sz_cxr", "--format", "folder", "--name", "cxr", "--label-names", "lung")
    ran = run(home, "train", "--method", "segmote", "--data", "cxr", "--preset", "segmote-tiny", *SHORT, "--json")
    assert {row["way"] for row in json.loads(ran.out)["validation"]["ways"]} >= {"none", "box", "point", "ellipse"}
    run(home, "predict", "-i", real_data / "sz_cxr" / "CXR_png", "-o", tmp_path / "masks", "--preview")
    for path in sorted((real_data / "sz_cxr" / "CXR_png").glob("*.png")):
        assert Image.open(tmp_path / "masks" / path.name).size == Image.open(path).size
        assert (tmp_path / "masks" / "previews" / path.name).is_file()
