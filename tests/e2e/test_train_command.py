"""`medmoe train` from raw dataset to a model that predicts, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from medmoe_cli.core.base.hashing import file_sha256
from tests.tools.cli import ROOT, Ran, medmoe_here
from tests.tools.datasets import make_dataset

SMALL = (
    "plan.input_size=64",
    "model.depth=2",
    "model.width=48",
    "model.decoder_width=32",
    "train.workers=0",
    "train.validation_every=1",
    "train.keep_checkpoints=3",
    "train.ema=0.5",
)


def train(workspace: Path, *arguments: str, data: str = "phantom", settings: tuple[str, ...] = SMALL) -> Ran:
    sets = [part for setting in settings for part in ("--set", setting)]
    head = ["--workspace", str(workspace), "--json", "train", "--method", "segmote", "--data", data, "-d", "cpu"]
    return medmoe_here(*head, *sets, *arguments)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make these small trainings many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
        "postprocessing.json",
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
    dry = train(workspace, "--preset", "segmote-tiny", "--epochs", "3", "--dry-run")
    assert dry.code == 0, dry.err
    result = json.loads(dry.out)
    (stage,) = result["parameters"]
    groups = {group["name"]: group for group in stage["groups"]}
    assert groups["MoTE"]["trainable"] == groups["MoTE"]["total"] > 0
    assert result["step_cost"]["seconds"] > 0
    assert result["num_train"] > 0
    assert result["total_steps"] == 3 * -(-result["num_train"] // result["plan"]["batch_size"])
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


def test_changed_data_are_not_resumed(workspace: Path, fold: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace, tmp_path / "copy")
    case = tmp_path / "copy" / "datasets" / "phantom" / "imagesTr" / "case_001_0000.nii.gz"
    image = nib.load(case)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) + 1, image.affine, image.header), case)
    done = train(tmp_path / "copy", "--resume", "--name", "first", settings=())
    assert done.code == 4
    (line,) = done.error_lines
    assert "data.fingerprint" in line


def test_a_frozen_encoder_is_cached_for_all_runs(workspace: Path) -> None:
    settings = (*SMALL, "model.train_encoder=false", "model.train_decoder=false")
    for name in ("frozen", "again"):
        done = train(workspace, "--preset", "segmote-tiny", "--epochs", "1", "--name", name, settings=settings)
        assert done.code == 0, done.err
        assert "augmentation is off" in done.err
        assert ("are cached already" in done.err) == (name == "again")
    (cache,) = (workspace / "preprocessed" / "phantom" / "features").iterdir()
    result = json.loads(done.out)
    assert len(list(cache.rglob("*.safetensors"))) == result["num_train"] + result["num_validation"]
    groups = {group["name"]: group for group in result["parameters"][0]["groups"]}
    assert groups["encoder"]["trainable"] == groups["mask decoder"]["trainable"] == 0
    assert groups["MoTE"]["trainable"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_executable_saves_on_a_signal_and_goes_on(workspace: Path, tmp_path: Path, number: int, code: int) -> None:
    shutil.copytree(workspace / "datasets", tmp_path / "datasets")
    sets = [part for setting in SMALL for part in ("--set", setting)]
    head = [sys.executable, "-m", "medmoe_cli", "--workspace", str(tmp_path)]
    head += ["train", "--method", "segmote", "--data", "phantom", "-d", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    fold = tmp_path / "runs" / "phantom" / "segmote" / "run-001" / "fold_0"
    with subprocess.Popen(
        [*head, *sets, "--preset", "segmote-tiny", "--epochs", "40"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (fold / "log.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    error = err.splitlines()[-1]
    assert error.startswith("error: interrupted by SIG")
    command = error.split("fix: medmoe ")[1].split()
    resumed = subprocess.run(
        [*head[:5], *command, "-d", "cpu"], env=environment, capture_output=True, text=True, timeout=250
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from step-" in resumed.stderr


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
