"""A 3D method as a user types it: real scans and series in, masks where they were, by all kinds of model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medmoe_cli.core.imaging.read import read_geometry, read_labels
from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import write_nifti
from tests.tools.merging import merging_plan, put_model
from tests.tools.sam_med3d import small_merged, small_model, volume_plan

pytestmark = pytest.mark.realdata

SMALL = (
    *("--set", "plan.input_size=32"),
    *("--set", "model.width=48"),
    *("--set", "model.depth=1"),
    *("--set", "model.decoder_width=48"),
    *("--set", "model.decoder_mlp=48"),
    *("--set", "model.stem_channels=4"),
    *("--set", "model.correction_rounds=1"),
    *("--set", "train.workers=0"),
    *("--set", "train.warmup_steps=0"),
    *("--steps", "2"),
)
TRAIN = ("train", "--method", "sam-med3d-moe", "--preset", "sam-med3d-moe-tiny", "--data", "hippo", *SMALL)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(home: Path, *arguments: object) -> Ran:
    ran = medmoe_here("--workspace", home, *(str(argument) for argument in arguments))
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def home(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five hippocampi, a general model and an expert, each trained for two steps."""
    root = tmp_path_factory.mktemp("home")
    source, data = real_data / "Task04_Hippocampus", root / "datasets" / "hippo"
    for folder in ("imagesTr", "labelsTr"):
        (data / folder).mkdir(parents=True)
    for path in sorted((source / "imagesTr").glob("hippo*.nii.gz"))[:5]:
        shutil.copy(path, data / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
        shutil.copy(source / "labelsTr" / path.name, data / "labelsTr" / path.name)
    names = {"background": 0, "Anterior": 1, "Posterior": 2}
    content = {"channel_names": {"0": "MRI"}, "labels": names, "numTraining": 5, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(content))
    run(root, *TRAIN, "--name", "general")
    run(root, *TRAIN, "--name", "expert", "--set", "model.role=expert", "--set", "model.general=general")
    return root


def scans_of(home: Path) -> Path:
    return home / "datasets" / "hippo" / "imagesTr"


def labels_of(home: Path) -> Path:
    return home / "datasets" / "hippo" / "labelsTr"


def lies_where(mask_path: Path, scan_path: Path, values: set[int]) -> None:
    mask, scan = nib.load(mask_path), nib.load(scan_path)
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert mask.header[code] == scan.header[code], code
    assert set(np.unique(np.asarray(mask.dataobj)).tolist()) <= values


def test_training_ends_with_every_way_it_can_be_asked(home: Path) -> None:
    for name, ways in (("general", {"box", "point", "point + 1 clicks", "ellipsoid"}), ("expert", {"text"})):
        folder = home / "runs" / "hippo" / "sam-med3d-moe" / name / "fold_0"
        scores = json.loads((folder / "validation" / "prompts.json").read_text())
        assert ways <= {score["way"] for score in scores["ways"]}
        assert all(score["num_instances"] == 2 for score in scores["ways"])
        summary = json.loads((folder / "validation" / "summary.json").read_text())
        (case,) = summary["metric_per_case"]
        (mask,) = (folder / "validation" / "masks").glob("*.nii.gz")
        lies_where(mask, scans_of(home) / mask.name.replace(".nii.gz", "_0000.nii.gz"), {0, 1, 2})
        assert set(case["metrics"]) == {"1", "2"}
        assert len(list((folder / "validation" / "previews").glob("*.png"))) == 1


def test_scans_in_masks_out_with_all_by_products(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    wanted = ("--preview", "--statistics", "--save-probabilities")
    run(home, "predict", "-m", "general", "-i", scans_of(home), "-o", out, "--prompts-from", labels_of(home), *wanted)
    masks = sorted(out.glob("*.nii.gz"))
    assert len(masks) == 5
    statistics = json.loads((out / "statistics.json").read_text())
    for path in masks:
        case = path.name.removesuffix(".nii.gz")
        lies_where(path, scans_of(home) / f"{case}_0000.nii.gz", {0, 1, 2})
        assert (out / "previews" / f"{case}.png").is_file()
        found = np.asarray(nib.load(path).dataobj)
        assert statistics[case]["Anterior"]["num_voxels"] == int((found == 1).sum())
        maps = [nib.load(out / "probabilities" / f"{case}_{name}.nii.gz") for name in ("Anterior", "Posterior")]
        stacked = np.stack([np.asarray(each.dataobj) for each in maps])
        np.testing.assert_array_equal(found, np.where(stacked.max(0) > 0.5, stacked.argmax(0) + 1, 0))
    summary = json.loads(run(home, "evaluate", "-p", out, "-g", labels_of(home), "--json").out)
    assert len(summary["metric_per_case"]) == 5


def test_a_general_model_says_that_it_needs_a_prompt(home: Path, tmp_path: Path) -> None:
    ran = medmoe_here("--workspace", home, "predict", "-m", "general", "-i", scans_of(home), "-o", tmp_path / "none")
    assert_one_line_error(ran, 2, "needs prompts", "fix: add --prompts prompts.json, or --prompts-from MASKS")
    ran = medmoe_here(
        *("--workspace", home, "predict", "-m", "general", "-i", scans_of(home), "-o", tmp_path / "none"),
        *("--text", "Anterior"),
    )
    assert_one_line_error(ran, 2, "does not answer text")
    assert not (tmp_path / "none").exists()


def test_an_expert_needs_nothing_but_scans_and_may_be_averaged_with_its_general_model(
    home: Path, tmp_path: Path
) -> None:
    run(home, "predict", "-m", "expert", "-i", scans_of(home), "-o", tmp_path / "alone")
    assert len(list((tmp_path / "alone").glob("*.nii.gz"))) == 5
    both = ("-m", "expert", "-m", "general", "--prompts-from", labels_of(home), "--prompt-type", "point")
    said = run(home, "predict", "-i", scans_of(home), "-o", tmp_path / "both", "--clicks", "2", *both).err
    assert "probabilities of 2 models are averaged" in said
    for path in (tmp_path / "both").glob("*.nii.gz"):
        lies_where(path, scans_of(home) / path.name.replace(".nii.gz", "_0000.nii.gz"), {0, 1, 2})
    ran = medmoe_here(
        *("--workspace", home, "predict", "-i", scans_of(home), "-o", tmp_path / "text", "--text", "Anterior"),
        *("-m", "expert", "-m", "general"),
    )
    assert_one_line_error(ran, 4, "cannot be averaged", "text")


def test_clicks_are_scored_one_by_one(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "clicks.json"
    run(
        *(home, "evaluate", "-m", "general", "-i", scans_of(home), "-g", labels_of(home)),
        *("--simulate-clicks", "3", "-o", target),
    )
    content = json.loads(target.read_text())
    assert content["clicked"] == "each structure of a volume"
    assert [len(curve["clicks"]) for curve in content["classes"].values()] == [3, 3]
    assert all(case["num_clicked"] == {"Anterior": 1, "Posterior": 1} for case in content["cases"])
    assert target.with_suffix(".png").is_file()


@pytest.mark.parametrize("folder", ["dicom_ct", "dicom_mr"])
def test_a_series_in_a_mask_out(home: Path, real_data: Path, tmp_path: Path, folder: str) -> None:
    """Prompts in the patient's millimetres; the mask lies on the series' own grid."""
    source = real_data / folder
    inner = [path for path in source.iterdir() if path.is_dir()]
    series = inner[0] if inner else source
    geometry = read_geometry(series)
    middle = geometry.to_mm(np.array([[extent / 2 for extent in geometry.shape]]))[0]
    corner = middle + 15
    entries = [
        {"label": "Anterior", "points": [[*middle.tolist(), 1]]},
        {"label": "Posterior", "box": [*(middle - 15).tolist(), *corner.tolist()]},
    ]
    case = series.name
    file = {"schema": 1, "space": "mm", "axes": "xyz", "cases": {case: entries}}
    (tmp_path / "prompts.json").write_text(json.dumps(file))
    out = tmp_path / "masks"
    run(home, "predict", "-m", "general", "-i", series, "-o", out, "--prompts", tmp_path / "prompts.json", "--preview")
    mask = out / f"{case}.nii.gz"
    assert read_geometry(mask).differences(geometry) == []
    assert set(np.unique(read_labels(mask).data).tolist()) <= {0, 1, 2}
    assert (out / "previews" / f"{case}.png").is_file()


def test_a_report_of_a_volume_run_has_its_pictures(home: Path, tmp_path: Path) -> None:
    run(home, "report", "expert", "-o", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "an ellipsoid in the box" in page
    assert "one click inside it + 1 on what is wrong" in page
    assert "a box around each structure, made from the reference" in page
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures >= {"features", "cases-dice", "training-loss"}
    assert any(name.startswith("case-") for name in pictures)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a merged model, and a general one that knows no class."""
    root = tmp_path_factory.mktemp("shared")
    plan = volume_plan()
    put_model(root / "models" / "merged", small_merged(plan=plan), plan)
    nameless = merging_plan("", ())
    put_model(root / "models" / "nameless", small_model(plan=nameless), nameless)
    for number in range(2):
        values = np.random.default_rng(number).normal(100, 20, (40, 36, 30)).astype(np.float32)
        write_nifti(root / "scans" / f"case{number}.nii.gz", values, np.diag([-1.5, 1.5, 1.5, 1.0]))
    return root


def test_a_merged_model_predicts_is_exported_and_predicts_the_same_elsewhere(shared: Path, tmp_path: Path) -> None:
    run(shared, "predict", "-m", "merged", "-i", shared / "scans", "-o", tmp_path / "here")
    names = json.loads((tmp_path / "here" / "dataset.json").read_text())["labels"]
    assert set(names) == {"background", "organ 1", "organ 2", "organ 3", "organ 4"}
    run(shared, "models", "export", "merged", "-o", tmp_path / "merged.zip")
    run(tmp_path / "away", "models", "import", tmp_path / "merged.zip", "--name", "back")
    run(tmp_path / "away", "predict", "-m", "back", "-i", shared / "scans", "-o", tmp_path / "there")
    for number in range(2):
        one, other = (tmp_path / name / f"case{number}.nii.gz" for name in ("here", "there"))
        lies_where(one, shared / "scans" / f"case{number}.nii.gz", {0, 1, 2, 3})
        np.testing.assert_array_equal(np.asarray(nib.load(one).dataobj), np.asarray(nib.load(other).dataobj))
    ran = medmoe_here(
        *("--workspace", shared, "predict", "-m", "merged", "-i", shared / "scans", "-o", tmp_path / "four"),
        *("--text", "organ 4"),
    )
    assert_one_line_error(ran, 2, "class 'organ 4' needs a prompt", "--prompts FILE")


def test_a_model_without_classes_takes_their_names_from_what_it_is_asked(shared: Path, tmp_path: Path) -> None:
    entries = {
        "case0": [{"label": "tumour", "box": [5, 5, 5, 20, 20, 20]}],
        "case1": [{"label": "cyst", "points": [[9, 9, 9, 1]]}, {"label": "tumour", "points": [[20, 20, 20, 1]]}],
    }
    (tmp_path / "p.json").write_text(json.dumps({"schema": 1, "space": "voxel", "axes": "xyz", "cases": entries}))
    asked = ("predict", "-m", "nameless", "-i", shared / "scans")
    run(shared, *asked, "-o", tmp_path / "out", "--prompts", tmp_path / "p.json")
    names = json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]
    assert names == {"background": 0, "tumour": 1, "cyst": 2}
    for number in range(2):
        masks = np.zeros((40, 36, 30), np.uint8)
        masks[5:20, 5:20, 5:20], masks[24:34, 20:30, 8:20] = 4, 9
        write_nifti(tmp_path / "masks" / f"case{number}.nii.gz", masks, np.diag([-1.5, 1.5, 1.5, 1.0]))
    run(shared, *asked, "-o", tmp_path / "by-values", "--prompts-from", tmp_path / "masks")
    names = json.loads((tmp_path / "by-values" / "dataset.json").read_text())["labels"]
    assert names == {"background": 0, "4": 4, "9": 9}
    found = np.asarray(nib.load(tmp_path / "by-values" / "case0.nii.gz").dataobj)
    assert set(np.unique(found).tolist()) <= {0, 4, 9}
    (tmp_path / "masks" / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 4, "spleen": 9}})
    )
    run(shared, *asked, "-o", tmp_path / "by-names", "--prompts-from", tmp_path / "masks")
    names = json.loads((tmp_path / "by-names" / "dataset.json").read_text())["labels"]
    assert names == {"background": 0, "liver": 4, "spleen": 9}
    ran = medmoe_here("--workspace", shared, *asked, "-o", tmp_path / "nothing")
    assert_one_line_error(ran, 2, "needs prompts", "knows no classes by name", "fix: add --prompts prompts.json")
