"""`evaluate --simulate-clicks`: the numbers are those of separate predictions, from one encoding."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.sections import PredictConfig, Section
from medmoe_cli.core.metrics.bootstrap import mean_intervals
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel
from medmoe_cli.core.workflows.predicting.concepts import Asked
from medmoe_cli.core.workflows.predicting.ensemble import Ensemble
from medmoe_cli.core.workflows.predicting.requests import FromMasks
from medmoe_cli.core.workflows.predicting.scans import ScanCase
from medmoe_cli.core.workflows.scoring.simulate_clicks import _click
from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import write_nifti
from tests.tools.models import untrained_model
from tests.tools.oracle import CARD, Oracle, oracle_inference, oracle_plan

AFFINE = np.array([[0, -1.5, 0, 30], [1.5, 0, 0, -20], [0, 0, 4.0, 5], [0, 0, 0, 1]], float)
SHAPE = (40, 32, 5)
THRESHOLD = 0.0178
LABELS = {"liver": 1, "spleen": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: its threshold lies in the middle of what it says, so that masks are neither empty nor everything."""
    folder = untrained_model(tmp_path_factory.mktemp("models") / "two", labels=LABELS, seed=1)
    record = json.loads((folder / "model.json").read_text())
    record["predict"]["threshold"] = THRESHOLD
    (folder / "model.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans: both classes in two of them, the liver alone in the third; two are of one patient."""
    root = tmp_path_factory.mktemp("clicks")
    rng = np.random.default_rng(0)
    for number in range(3):
        truth = np.zeros(SHAPE, np.uint8)
        truth[4 + number : 20, 5:18, 1:4] = 1
        if number < 2:
            truth[24:34, 12 : 22 + 3 * number, 2:5] = 2
        scan = (truth / 3 + rng.normal(0, 0.1, SHAPE)).astype(np.float32)
        write_nifti(root / "scans" / f"s{number}_0000.nii.gz", scan, AFFINE)
        write_nifti(root / "truth" / f"s{number}.nii.gz", truth, AFFINE)
    patients = {"s0": "p", "s1": "p", "s2": "q"}
    names = {"labels": {"background": 0, **LABELS}, "patients": patients}
    (root / "dataset.json").write_text(json.dumps(names))
    return root


def clicks(model: Path, data: Path, number: int, *options: str | Path) -> Ran:
    return medmoe_here(
        "--json", "evaluate", "--simulate-clicks", str(number), "-m", model, "-i", data / "scans", "-g", data / "truth",
        *options,
    )  # fmt: skip


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_every_click_scores_as_a_prediction_with_so_many_clicks(model: Path, data: Path, tmp_path: Path) -> None:
    ran = clicks(model, data, 3, "-o", tmp_path / "clicks.json")
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "clicks.json").read_text())
    assert found == json.loads(ran.out)
    cases = {case["case"]: case for case in found["cases"]}
    assert sorted(cases) == ["s0", "s1", "s2"]
    assert cases["s2"]["dice"].keys() == {"liver"}
    assert cases["s0"]["num_clicked"] == {"liver": 3, "spleen": 3}
    for number in (1, 2, 3):
        out = tmp_path / f"masks{number}"
        predicted = medmoe_here(
            "predict", "-i", data / "scans", "-o", out, "-m", model, "--prompts-from", data / "truth",
            "--prompt-type", "point", "--clicks", str(number), "--save-probabilities",
        )  # fmt: skip
        assert predicted.code == 0, predicted.err
        for case, entry in cases.items():
            truth = voxels(data / "truth" / f"{case}.nii.gz")
            for name, dice in entry["dice"].items():
                # A structure's own mask: the label map would have lost what an overlapping class won.
                mask = voxels(out / "probabilities" / f"{case}_{name}.nii.gz").astype(np.float16) > THRESHOLD
                inside = truth == LABELS[name]
                assert dice[number - 1] == pytest.approx(
                    2 * (mask & inside).sum() / (mask.sum() + inside.sum()), abs=1e-12
                )
    scores = {score for entry in cases.values() for dice in entry["dice"].values() for score in dice}
    assert len(scores) > 10, "the model answers everything alike: nothing was tested"


def test_means_counts_and_intervals_are_over_patients(model: Path, data: Path, tmp_path: Path) -> None:
    found = json.loads(clicks(model, data, 2, "-o", tmp_path / "out").out)
    assert (tmp_path / "out" / "clicks.json").is_file()
    dice = {case["case"]: case["dice"] for case in found["cases"]}
    assert found["labels"] == {"1": "liver", "2": "spleen"}
    for index in range(2):
        liver = [dice[case]["liver"][index] for case in ("s0", "s1", "s2")]
        spleen = [dice[case]["spleen"][index] for case in ("s0", "s1")]
        first, second = (found["classes"][key]["clicks"][index] for key in ("1", "2"))
        assert first["clicks"] == index + 1
        assert first["mean"] == pytest.approx(np.mean(liver))
        assert (first["n_used"], first["n_total"]) == (3, 3)
        assert (second["n_used"], second["n_total"]) == (2, 3)
        assert second["mean"] == pytest.approx(np.mean(spleen))
        assert second["ci95"] is None  # both spleens are one patient's
        (expected,) = mean_intervals(np.array(liver)[:, None, None], ["p", "p", "q"])
        assert expected is not None
        assert first["ci95"] == pytest.approx([expected.low, expected.high])
        overall = found["overall"]["clicks"][index]
        assert overall["mean"] == pytest.approx((np.mean(liver) + np.mean(spleen)) / 2)
        assert (overall["n_used"], overall["n_total"]) == (5, 6)


def test_a_picture_a_record_a_table_and_the_next_command(model: Path, data: Path, tmp_path: Path) -> None:
    ran = medmoe_here(
        "evaluate", "--simulate-clicks", "2", "-m", model, "-i", data / "scans", "-g", data / "truth",
        "-o", tmp_path / "c.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    for word in ("liver", "spleen", "all", "1 click", "2 clicks", "95% CI", "5/6"):
        assert word in ran.out, word
    assert "--prompt-type point --clicks 2" in ran.err
    record = json.loads((tmp_path / "run.json").read_text())
    assert [case["status"] for case in record["cases"]] == ["ok"] * 3
    assert len(record["inputs_sha256"]) == 1 + 3
    assert {Path(path).name for path in record["outputs"]} == {"c.json", "c.png"}
    silent = clicks(model, data, 1)
    assert "clicks.json" in silent.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json", "c.png", "run.json"]


def test_a_scan_is_encoded_once_however_many_clicks(data: Path) -> None:
    plan = oracle_plan(labels=LABELS)
    inference = oracle_inference()
    oracle = inference.segmenter
    assert isinstance(oracle, Oracle)
    case = ScanCase(id="s0", files=(data / "scans" / "s0_0000.nii.gz",))
    encoded = []
    for number in (1, 6):
        masks = FromMasks(data / "truth", plan, kind="point", clicks=number, mask_size=oracle.mask_size)
        loaded = LoadedModel(
            segmenter=oracle, plan=plan, card=CARD, config=Section(), predict=PredictConfig(),
            class_names=plan.class_names, source=data, sha256="0",
        )  # fmt: skip
        ensemble = Ensemble(
            models=(loaded,), inferences=(inference,), sources=(masks,), rules=Postprocessing(),
            asked=Asked(models=(loaded,), prompts=None),
        )  # fmt: skip
        oracle.encoded.clear()
        found = _click(ensemble, case, masks, clicks=number, check=lambda: None)
        assert all(len(dice) == number for dice in found.dice.values())
        encoded.append(sum(oracle.encoded))
    assert encoded == [4, 4]  # the slices that show something


def test_a_structure_too_small_for_the_network_is_missed_not_forgotten(model: Path, tmp_path: Path) -> None:
    truth = np.zeros((400, 400, 3), np.uint8)
    truth[100, 100, 1] = 1
    truth[50:90, 50:90, 2] = 2
    write_nifti(tmp_path / "scans" / "a.nii.gz", np.zeros(truth.shape, np.float32), AFFINE)
    write_nifti(tmp_path / "truth" / "a.nii.gz", truth, AFFINE)
    found = json.loads(clicks(model, tmp_path, 1).out)
    (case,) = found["cases"]
    assert case["num_clicked"] == {"liver": 0, "spleen": 1}
    assert case["dice"]["liver"] == [0.0]


def test_what_does_not_go_together_is_said_at_once(model: Path, data: Path, tmp_path: Path) -> None:
    ran = clicks(model, data, 2, "-p", "x", "--convention", "nnunet", "--tolerance-mm", "1")
    assert ran.code == 2
    assert len(ran.error_lines) == 3
    ran = medmoe_here("evaluate", "-p", data / "truth", "-g", data / "truth", "-m", model, "-i", data / "scans")
    assert ran.code == 2
    assert len(ran.error_lines) == 2
    assert_one_line_error(medmoe_here("evaluate", "-g", data / "truth"), 2, "missing --predictions")
    assert_one_line_error(
        medmoe_here("evaluate", "--simulate-clicks", "2", "-m", model, "-g", data / "truth"), 2, "missing --input"
    )
    assert_one_line_error(clicks(model, data, 0), 2, "simulate-clicks")


def test_models_without_points_and_data_without_truth_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    automatic = untrained_model(tmp_path / "automatic", labels=LABELS, preset="moe-sam-tiny")
    assert_one_line_error(clicks(automatic, data, 2), 2, "does not answer point prompts")
    out = ("-o", tmp_path / "out")
    assert_one_line_error(clicks(tmp_path / "nothing", data, 2, *out), 4, "unknown model")
    for name in ("scans", "truth"):
        (tmp_path / "part" / name).mkdir(parents=True)
    for number in range(2):
        scan = data / "scans" / f"s{number}_0000.nii.gz"
        (tmp_path / "part" / "scans" / scan.name).write_bytes(scan.read_bytes())
    truth = (data / "truth" / "s0.nii.gz").read_bytes()
    (tmp_path / "part" / "truth" / "s0.nii.gz").write_bytes(truth)
    assert_one_line_error(clicks(model, tmp_path / "part", 1, *out), 3, "no mask for case 's1'")
    ran = clicks(model, tmp_path / "part", 1, "--ignore-missing")
    assert ran.code == 0
    assert "1 of 2 scans are not scored" in ran.err
    write_nifti(tmp_path / "part" / "truth" / "s1.nii.gz", np.ones(SHAPE, np.uint8), np.eye(4))
    (tmp_path / "part" / "truth" / "s0.nii.gz").write_bytes(truth[:-40])
    ran = clicks(model, tmp_path / "part", 1, *out)
    assert ran.code == 3
    assert len(ran.error_lines) == 2
    for number in range(2):
        write_nifti(tmp_path / "part" / "truth" / f"s{number}.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    assert_one_line_error(clicks(model, tmp_path / "part", 1, *out), 3, "nothing to score")
    assert not (tmp_path / "out").exists()
