"""`medmoe train` from raw dataset to a model that predicts, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from medmoe_cli.core.base.hashing import file_sha256
from tests.tools.cli import Ran, medmoe_here
from tests.tools.datasets import make_dataset

SMALL = (
    "plan.input_size=64",
    "model.depth=2",
    "model.width=48",
    "model.decoder_width=32",
    "train.workers=0",
    "train.keep_checkpoints=3",
    "train.ema=0.5",
)


def train(workspace: Path, *arguments: str, data: str = "phantom", settings: tuple[str, ...] = SMALL) -> Ran:
    sets = [part for setting in settings for part in ("--set", setting)]
    head = ["--workspace", str(workspace), "--json", "train", "--method", "segmote", "--data", data, "-d", "cpu"]
    return medmoe_here(*head, *sets, *arguments)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one dataset and one finished run of two epochs."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "phantom", cases=5, classes=2, shape=(32, 32, 6))
    done = train(root, "--preset", "segmote-tiny", "--epochs", "2", "--name", "first")
    assert done.code == 0, done.err
    return root


@pytest.fixture
def fold(workspace: Path) -> Path:
    return workspace / "runs" / "phantom" / "segmote" / "first" / "fold_0"


def test_a_run_has_its_files_and_they_say_what_happened(workspace: Path, fold: Path) -> None:
    assert {path.name for path in fold.iterdir() if not path.name.startswith(".")} == {
        "config.resolved.yaml",
        "plan.json",
        "dataset.json",
        "log.jsonl",
        "progress.png",
        "checkpoints",
        "validation",
        "run.json",
    }
    lines = [json.loads(line) for line in (fold / "log.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert set(epochs[0]["validation"]["dice"]) == {"box", "point", "text"}
    assert set(epochs[0]["routing"]) >= {"layer1", "layer2"}
    config = yaml.safe_load((fold / "config.resolved.yaml").read_text())
    assert (config["plan"]["input_size"], config["train"]["epochs"]) == (64, 2)
    text = (fold / "config.resolved.yaml").read_text()
    assert "  epochs: 2  # --epochs" in text
    assert "  input_size: 64  # --set" in text
    assert "  optimizer: adamw  # preset segmote-tiny" in text
    record = json.loads((fold / "run.json").read_text())
    assert (record["verb"], record["exit_code"]) == ("train", 0)
    with Picture.open(fold / "progress.png") as picture:
        assert picture.size[0] > 800
        assert np.asarray(picture).std() > 10


def test_validation_masks_lie_where_the_scans_do(workspace: Path, fold: Path) -> None:
    splits = json.loads((workspace / "preprocessed" / "phantom" / "splits_final.json").read_text())
    masks = sorted((fold / "validation" / "masks").iterdir())
    assert [mask.name.removesuffix(".nii.gz") for mask in masks] == splits[0]["val"]
    for mask in masks:
        case = mask.name.removesuffix(".nii.gz")
        scan = nib.load(workspace / "datasets" / "phantom" / "imagesTr" / f"{case}_0000.nii.gz")
        written = nib.load(mask)
        assert written.shape == scan.shape
        np.testing.assert_array_equal(written.affine, scan.affine)
        with Picture.open(fold / "validation" / "previews" / f"{case}.png") as preview:
            assert preview.size[0] > 100
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(masks)


def test_the_report_tells_parameters_apart(workspace: Path) -> None:
    dry = train(workspace, "--preset", "segmote-tiny", "--dry-run")
    assert dry.code == 0, dry.err
    result = json.loads(dry.out)
    (stage,) = result["parameters"]
    groups = {group["name"]: group for group in stage["groups"]}
    assert groups["MoTE"]["trainable"] == groups["MoTE"]["total"] > 0
    assert result["step_cost"]["seconds"] > 0
    assert result["num_train"] > 0
    assert result["total_steps"] == 30 * -(-result["num_train"] // result["plan"]["batch_size"])
    assert result["folder"] is None


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "datasets" / "phantom", cases=3, shape=(32, 32, 4))
    before = sorted(tmp_path.rglob("*"))
    done = train(tmp_path, "--dry-run")
    assert done.code == 0, done.err
    assert json.loads(done.out)["preset"] == "segmote-tiny"
    assert json.loads(done.out)["num_train"] is None
    assert "backbone" in json.loads(done.out)["preset_why"]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(workspace: Path, fold: Path) -> None:
    other = workspace / "runs" / "phantom" / "segmote" / "second" / "fold_0"
    shutil.copytree(fold, other)
    (last,) = [path for path in (other / "checkpoints").iterdir() if path.name == max(_steps(other))]
    wanted = {name: file_sha256(last / name) for name in ("model.safetensors", "optimizer.safetensors")}
    log = (other / "log.jsonl").read_text()
    shutil.rmtree(last)  # as if killed in the second epoch, long after the first one's checkpoint
    resumed = train(workspace, "--resume", "--name", "second", settings=())
    assert resumed.code == 0, resumed.err
    assert {name: file_sha256(last / name) for name in wanted} == wanted
    assert _without_machine(other / "log.jsonl") == [
        {key: value for key, value in json.loads(line).items() if key != "machine"} for line in log.splitlines()
    ]
    assert json.loads(resumed.out)["preset_why"] == "the run's own configuration"


def test_other_settings_and_other_data_are_not_resumed(workspace: Path) -> None:
    done = train(workspace, "--resume", "--name", "first", settings=("train.learning_rate=0.5", "model.top_k=2"))
    assert done.code == 4
    (line,) = done.error_lines
    assert "train.learning_rate: 0.001 then, 0.5 now" in line
    assert "model.top_k: 1 then, 2 now" in line
    assert "fix:" in line


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--name", "first"), 2, "run 'first' exists"),
        (("--resume", "--name", "frist"), 2, "did you mean 'first'"),
        (("--resume", "--fold", "3"), 2, "no run has begun"),
        (("--fold", "9"), 2, "0 to 4"),
        (("--name", "../up"), 2, "bad run name"),
        (("--device", "cuda:7"), 2, "CUDA"),
        (("--preset", "segmote-tinny"), 2, "did you mean 'segmote-tiny'"),
        (("--set", "train.epoch=3"), 2, "train.epochs"),
        (("--set", "model.weights=sam-vit-b"), 4, "medmoe models add"),
    ],
)
def test_mistakes_are_one_line_with_the_next_command(
    workspace: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    before = sorted((workspace / "runs").rglob("*"))
    named = {"--preset", "--resume"} & set(arguments)
    done = train(workspace, *(() if named else ("--preset", "segmote-tiny")), *arguments)
    assert done.code == code, done.err
    (line,) = done.error_lines
    assert says in line
    assert "fix:" in line
    assert sorted((workspace / "runs").rglob("*")) == before


def test_a_run_without_a_checkpoint_is_not_resumed_but_explained(workspace: Path, fold: Path) -> None:
    bare = workspace / "runs" / "phantom" / "segmote" / "bare" / "fold_0"
    bare.mkdir(parents=True)
    shutil.copy(fold / "config.resolved.yaml", bare)
    done = train(workspace, "--resume", "--name", "bare", settings=())
    shutil.rmtree(bare.parent)
    assert done.code == 2
    assert "no checkpoint" in done.error_lines[0]


def test_a_dataset_with_errors_does_not_train(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "datasets" / "phantom", cases=4, shape=(32, 32, 4))
    (root / "labelsTr" / "case_002.nii.gz").unlink()
    done = train(tmp_path, "--preset", "segmote-tiny")
    assert done.code == 3
    assert any("case_002" in line for line in done.error_lines)
    assert not (tmp_path / "runs").exists()


def test_the_trained_model_predicts(workspace: Path, fold: Path, tmp_path: Path) -> None:
    scans = workspace / "datasets" / "phantom" / "imagesTr"
    head = ("--workspace", workspace, "--json", "predict", "-i", scans, "-d", "cpu")
    for name in ("phantom/segmote/first", str(fold)):
        done = medmoe_here(*head, "-o", tmp_path / Path(name).name, "-m", name)
        assert done.code == 0, done.err
        assert len(list((tmp_path / Path(name).name).glob("*.nii.gz"))) == 5


def _steps(fold: Path) -> list[str]:
    return sorted((path.name for path in (fold / "checkpoints").iterdir()), key=lambda name: int(name[5:]))[-1:]


def _without_machine(path: Path) -> list[dict[str, object]]:
    return [
        {key: value for key, value in json.loads(line).items() if key != "machine"}
        for line in path.read_text().splitlines()
    ]
