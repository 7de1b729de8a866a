"""A 3D method from raw dataset to a general model and an expert of it, through the workflows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.nn.weights import load_tensors
from medmoe_cli.core.workflows.preprocess import run_preprocess
from medmoe_cli.core.workflows.train import run_train
from medmoe_cli.core.workflows.train_options import TrainOptions, TrainResult
from tests.tools.datasets import make_dataset

METHOD, PRESET = "sam-med3d-moe", "sam-med3d-moe-tiny"
SMALL = (
    "plan.input_size=32",
    "model.width=48",
    "model.depth=1",
    "model.stem=patch",
    "model.draw_prompts=false",
    "model.decoder_width=48",
    "model.decoder_mlp=48",
    "model.gate_mlp=48",
    "train.workers=0",
    "train.warmup_steps=0",
    "train.schedule=constant",
    "train.keep_checkpoints=3",
    "train.validation_limit=2",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(
    workspace: Workspace, *settings: str, name: str | None = None, steps: int = 2, **options: object
) -> TrainResult:
    asked = TrainOptions(
        data="phantom",
        method=METHOD,
        preset=PRESET,
        name=name,
        steps=steps,
        device="cpu",
        assignments=(*SMALL, *settings),
        **options,  # type: ignore[arg-type]
    )
    return run_train(workspace=workspace, options=asked, reporter=Silent())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One dataset of two classes and a general model."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "phantom", cases=5, channels=1, classes=2, shape=(40, 36, 14))
    found = Workspace(root=root, origin="test")
    train(found, name="general")
    return found


def tensors(result: TrainResult) -> dict[str, torch.Tensor]:
    assert result.trained is not None
    return load_tensors(result.trained.last / "model.safetensors")


def test_a_general_model_trains_on_windows_and_resumes(workspace: Workspace) -> None:
    whole = train(workspace, name="whole", steps=4)
    assert (whole.num_train, whole.num_validation) == (8, 2)  # two classes of four cases, and of one
    assert whole.trained is not None
    assert whole.trained.validation is not None
    assert set(whole.trained.validation.dice) == {"box", "point"}
    train(workspace, name="parts", steps=2)
    parts = train(workspace, name="parts", steps=4, resume=True)
    assert parts.trained is not None
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert file_sha256(whole.trained.last / file) == file_sha256(parts.trained.last / file)


def test_an_expert_starts_from_the_general_model_and_leaves_its_encoder_alone(workspace: Workspace) -> None:
    general = load_tensors(
        workspace.runs / "phantom" / METHOD / "general" / "fold_0/checkpoints/step-2/model.safetensors"
    )
    expert = tensors(train(workspace, "model.role=expert", "model.general=general", name="expert"))
    shared = ("image_encoder.", "prompt_encoder.")
    for name, tensor in general.items():
        if name.startswith(shared):
            assert torch.equal(tensor, expert[name])
    decoder = [name for name in general if name.startswith("mask_decoder.")]
    assert any(not torch.equal(general[name], expert[name]) for name in decoder)
    assert (workspace.preprocessed / "phantom" / "features").is_dir()
    # Two small steps away from the general model's decoder, where it started.
    assert all((general[name] - expert[name]).abs().max() < 0.05 for name in decoder)


def test_an_expert_of_a_general_model_on_another_grid_is_refused(workspace: Workspace) -> None:
    with pytest.raises(CheckpointError) as error:
        train(workspace, "model.role=expert", "model.general=general", "plan.spacing_mm=[2,2,2]", name="other")
    assert error.value.exit_code == 4
    assert error.value.why == "spacing_mm: (1.5, 1.5, 1.5) there, (2.0, 2.0, 2.0) here"
    assert error.value.fix == "--set plan.spacing_mm=[1.5,1.5,1.5]"
    assert not (workspace.runs / "phantom" / METHOD / "other").exists()


def test_a_dry_run_measures_a_step_on_a_made_up_volume(workspace: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*") if path.is_file()}
    result = train(workspace, dry_run=True)
    assert result.step_cost is not None
    assert result.step_cost.seconds > 0
    assert (result.num_train, result.total_steps) == (8, 2)
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*") if path.is_file()} == before


@pytest.mark.realdata
def test_hippocampus_on_its_grid(real_data: Path, tmp_path: Path) -> None:
    source, root = real_data / "Task04_Hippocampus", tmp_path / "datasets" / "hippocampus"
    images = sorted((source / "imagesTr").glob("hippo*.nii.gz"))[:4]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for path in images:
        (root / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(path)
        (root / "labelsTr" / path.name).symlink_to(source / "labelsTr" / path.name)
    names = {"background": 0, "Anterior": 1, "Posterior": 2}
    content = {"channel_names": {"0": "MRI"}, "labels": names, "numTraining": 4, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    workspace = Workspace(root=tmp_path, origin="test")
    done = run_preprocess(workspace=workspace, data="hippocampus", method=METHOD, preset=PRESET, reporter=Silent())
    assert done.plan.spacing_mm == (1.5, 1.5, 1.5)
    assert [channel.normalization for channel in done.plan.channels] == ["zscore"]
    assert done.plan.mirror_axes == ("x", "z")
    assert (done.num_cases, done.num_samples) == (4, 4)
    records = [json.loads(path.read_text()) for path in done.folder.glob("*.case.json")]
    assert len(records) == 4
    for record in records:
        assert np.allclose(record["spacing_mm"], 1.5, rtol=0.05)
        assert set(record["objects"]) == {"1", "2"}
        # The head of a hippocampus lies before its body: y runs to the back in canonical order.
        front, back = (np.mean([anchor[1] for anchor in record["objects"][value]["anchors"]]) for value in "12")
        assert front < back
