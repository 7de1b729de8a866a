"""`medmoe predict -m A -m B`, mirroring and post-processing as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.config.postprocessing import Postprocessing, PostRule
from medmoe_cli.core.imaging.components import component_sizes
from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import write_nifti
from tests.tools.models import untrained_model
from tests.tools.oracle import oracle_plan

AFFINE = np.array([[0, -1.5, 0, 30], [1.5, 0, 0, -20], [0, 0, 4.0, 5], [0, 0, 0, 1]], float)
LABELS = {"liver": 1, "spleen": 2}
RULES = Postprocessing(rules=(PostRule(label="liver", keep="largest", reason="one piece in training"),))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two label-map models of different input sizes, one with the classes the other way round, and a prompted one."""
    root = tmp_path_factory.mktemp("models")
    mirrored = oracle_plan(labels=LABELS).model_copy(update={"mirror_axes": ("horizontal",)})
    untrained_model(root / "a", labels=LABELS, plan=mirrored, preset="moe-sam-tiny", seed=3, rules=RULES)
    other = oracle_plan(labels={"spleen": 1, "liver": 2}, input_size=96)
    untrained_model(root / "b", labels=LABELS, plan=other, preset="moe-sam-tiny", seed=7)
    untrained_model(root / "prompted", labels=LABELS, seed=5)
    untrained_model(root / "prompted2", labels=LABELS, seed=4)
    return root


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(2):
        write_nifti(tmp_path / "scans" / f"scan{number}.nii.gz", rng.random((40, 32, 4)).astype(np.float32), AFFINE)
    return tmp_path / "scans"


def predict(scans: Path, out: Path, *arguments: str | Path) -> Ran:
    ran = medmoe_here("predict", "-i", scans, "-o", out, "-d", "cpu", *arguments)
    assert ran.code == 0, ran.err
    return ran


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def probability(out: Path, name: str) -> np.ndarray:
    return voxels(out / "probabilities" / f"scan0_{name}.nii.gz")


def test_two_models_are_averaged_and_their_order_changes_nothing(models: Path, scans: Path, tmp_path: Path) -> None:
    save = "--save-probabilities"
    for name in ("a", "b"):
        predict(scans, tmp_path / name, "-m", models / name, save)
    both = tmp_path / "both"
    said = predict(scans, both, "-m", models / "a", "-m", models / "b", save).err
    assert "probabilities of 2 models are averaged" in said
    assert "number the classes differently" in said
    for name in LABELS:
        singles = [probability(tmp_path / one, name) for one in ("a", "b")]
        np.testing.assert_allclose(probability(both, name), (singles[0] + singles[1]) / 2, atol=1e-3)
        assert np.abs(singles[0] - singles[1]).max() > 0.02
    record = json.loads((both / "run.json").read_text())
    assert record["arguments"]["models"] == [str(models / "a"), str(models / "b")]
    assert len([path for path in record["inputs_sha256"] if path.startswith(str(models))]) == 2
    names = json.loads((both / "dataset.json").read_text())["labels"]
    background = 1 - sum(probability(both, name) for name in LABELS)
    stacked = np.stack([background, *(probability(both, name) for name in LABELS)])
    winner = np.array([0, *(names[name] for name in LABELS)])[stacked.argmax(0)]
    sure = np.sort(stacked, axis=0)[-1] - np.sort(stacked, axis=0)[-2] > 2e-3
    np.testing.assert_array_equal(voxels(both / "scan0.nii.gz")[sure], winner[sure])
    # The same two, named the other way round, are the same prediction: everything is done already.
    again = medmoe_here(
        "--json", "predict", "-i", scans, "-o", both, "-d", "cpu", "-m", models / "b", "-m", models / "a", save
    )
    result = json.loads(again.out)
    assert [case["status"] for case in result["cases"]] == ["cached", "cached"]
    assert len(result["models"]) == 2
    other = medmoe_here("predict", "-i", scans, "-o", both, "-d", "cpu", "-m", models / "a", save)
    assert other.code == 2
    assert "--overwrite" in other.err


def test_prompted_models_are_averaged_too(models: Path, scans: Path, tmp_path: Path) -> None:
    entry = [{"label": "spleen", "box": [5, 5, 1, 30, 25, 2]}]
    (tmp_path / "p.json").write_text(
        json.dumps({"schema": 1, "space": "voxel", "axes": "xyz", "cases": {"scan0": entry}})
    )
    prompts = ("--prompts", tmp_path / "p.json", "--save-probabilities")
    for name in ("prompted", "prompted2"):
        predict(scans, tmp_path / name, "-m", models / name, *prompts)
    predict(scans, tmp_path / "both", "-m", models / "prompted", "-m", models / "prompted2", *prompts)
    singles = [probability(tmp_path / name, "spleen") for name in ("prompted", "prompted2")]
    np.testing.assert_allclose(probability(tmp_path / "both", "spleen"), (singles[0] + singles[1]) / 2, atol=1e-3)


def test_models_that_do_not_go_together_are_refused_before_anything_is_predicted(
    models: Path, scans: Path, tmp_path: Path
) -> None:
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", models / "a", "-m", models / "prompted")
    assert_one_line_error(ran, 4, "cannot be averaged", "task", str(models / "a"), str(models / "prompted"))
    ran = medmoe_here("predict", "-i", scans, "-o", tmp_path / "m", "-m", models / "a", "-m", models / "a")
    assert_one_line_error(ran, 2, "same model twice")
    assert not (tmp_path / "m").exists()


def test_mirroring_and_rules_can_be_switched_off(models: Path, scans: Path, tmp_path: Path) -> None:
    usual = predict(scans, tmp_path / "usual", "-m", models / "a", "--save-probabilities")
    assert "averaged over mirrored images: horizontal" in usual.err
    assert "liver: only its largest component is kept (one piece in training)" in usual.err
    bare = predict(scans, tmp_path / "bare", "-m", models / "a", "--no-postprocessing")
    assert "largest component" not in bare.err
    whole, kept = (voxels(tmp_path / name / "scan0.nii.gz") for name in ("bare", "usual"))
    assert len(component_sizes(whole == 1)) > 1, "the random model must leave something to remove"
    assert len(component_sizes(kept == 1)) == 1
    np.testing.assert_array_equal(kept[kept > 0], whole[kept > 0])
    np.testing.assert_array_equal(kept == 2, whole == 2)
    receipt = json.loads((tmp_path / "usual" / ".medmoe" / "scan0.json").read_text())
    assert receipt["voxels_removed"] == int((whole != kept).sum())
    plain = predict(scans, tmp_path / "plain", "-m", models / "a", "--no-mirroring", "--save-probabilities")
    assert "mirrored" not in plain.err
    assert np.abs(probability(tmp_path / "plain", "liver") - probability(tmp_path / "usual", "liver")).max() > 1e-3


def test_a_mirrored_mask_does_not_depend_on_what_else_is_predicted(models: Path, scans: Path, tmp_path: Path) -> None:
    predict(scans, tmp_path / "together", "-m", models / "a", "--save-probabilities")
    predict(scans / "scan1.nii.gz", tmp_path / "alone", "-m", models / "a", "--save-probabilities")
    for name in ("scan1.nii.gz", "probabilities/scan1_liver.nii.gz"):
        np.testing.assert_array_equal(voxels(tmp_path / "together" / name), voxels(tmp_path / "alone" / name))
