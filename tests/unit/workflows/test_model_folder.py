from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.presets import load_preset, resolve, resolved_yaml
from medmoe_cli.core.engine.checkpoint import Checkpoints, Snapshot
from medmoe_cli.core.engine.state import TrainState
from medmoe_cli.core.models.registry import method
from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.workflows.model_files.model_folder import load_model, save_model
from medmoe_cli.core.workflows.model_files.run_folder import all_folds, fold_folder, next_run_name, read_config
from tests.tools.segmote import SMALL, small_images, small_plan, small_segmote


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, origin="test")


def make_run(
    workspace: Workspace,
    run: str = "run-001",
    *,
    dataset: str = "liver",
    fold: str = "0",
    steps: tuple[int, ...] = (10,),
    best: int | None = None,
    finished: bool = True,
    seed: int = 0,
) -> Path:
    """A run as training leaves it; each checkpoint has its own weights."""
    folder = fold_folder(workspace, dataset=dataset, method="segmote", run=run, fold=fold).path
    settings = [f"model.{key}={value}" for key, value in SMALL.items()]
    resolved = resolve(load_preset("segmote-tiny"), method("segmote").config_class(), assignments=settings)
    atomic.write_text(folder / "config.resolved.yaml", resolved_yaml(resolved, header={"dataset": dataset}))
    jsonio.write(folder / "plan.json", small_plan())
    for step in steps:
        model = built(seed + step).state_dict()
        state = TrainState(step=step, best_step=best, finished=finished and step == steps[-1])
        Checkpoints(folder / "checkpoints", keep=9).save(
            Snapshot(model=model, optimizer={"x/step": torch.ones(1)}, state=state, identity={})
        )
    return folder


def built(seed: int) -> Segmote:
    resolved = resolve(
        load_preset("segmote-tiny"),
        method("segmote").config_class(),
        assignments=[f"model.{key}={value}" for key, value in SMALL.items()],
    )
    torch.manual_seed(seed)
    segmenter = method("segmote").build(resolved.model, small_plan())
    assert isinstance(segmenter, Segmote)
    return segmenter.eval()


def test_a_run_gives_its_best_checkpoint_and_answers_as_it_did(workspace: Workspace) -> None:
    fold = make_run(workspace, steps=(10, 20), best=10)
    loaded = load_model("run-001", workspace=workspace)
    assert loaded.source == fold / "checkpoints" / "step-10"
    assert not loaded.segmenter.training
    assert loaded.class_names == ("organ 1", "organ 2", "organ 3")
    assert loaded.card.name == "segmote"
    images = small_images()
    with torch.inference_mode():
        ours = loaded.segmenter.encode(images).maps["embedding"]
        theirs = built(10).encode(images).maps["embedding"]
    assert torch.equal(ours, theirs)
    assert load_model(fold / "checkpoints" / "step-20", workspace=workspace).source.name == "step-20"


def test_names_and_paths_lead_to_the_same_run(workspace: Workspace) -> None:
    fold = make_run(workspace)
    names: list[str | Path | None] = [
        None,
        "run-001",
        "liver",
        "liver/segmote/run-001",
        "liver/segmote/run-001/fold_0",
        fold,
        fold.parent,
        str(fold.parent),
    ]
    for name in names:
        assert load_model(name, workspace=workspace).source == fold / "checkpoints" / "step-10", name
    elsewhere = Workspace(root=workspace.root / "elsewhere", origin="test")
    assert load_model(fold.parent, workspace=elsewhere).source == fold / "checkpoints" / "step-10"


def test_the_newest_finished_run_is_taken(workspace: Workspace) -> None:
    for age, (run, finished) in enumerate([("old", True), ("new", True), ("unfinished", False)]):
        fold = make_run(workspace, run, finished=finished, seed=age)
        os.utime(fold / "checkpoints" / "step-10", (1000 + age, 1000 + age))
    assert [folder.run for folder in all_folds(workspace)] == ["unfinished", "new", "old"]
    assert load_model(None, workspace=workspace).source.parents[2].name == "new"
    assert load_model("liver", workspace=workspace).source.parents[2].name == "new"
    assert load_model("unfinished", workspace=workspace).source.parents[2].name == "unfinished"


def test_what_cannot_be_found_says_what_there_is(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained model"):
        load_model(None, workspace=workspace)
    make_run(workspace, finished=False)
    with pytest.raises(CheckpointError, match="1 runs have begun, none is finished"):
        load_model(None, workspace=workspace)
    with pytest.raises(CheckpointError, match="did you mean 'run-001'"):
        load_model("run-01", workspace=workspace)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no run and no model\.json"):
        load_model(tmp_path / "empty", workspace=workspace)
    make_run(workspace, fold="1", finished=True)
    make_run(workspace, fold="2", finished=True)
    with pytest.raises(ConfigError, match="several folds") as caught:
        load_model("run-001", workspace=workspace)
    assert "-m liver/segmote/run-001/fold_" in caught.value.fix


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_flipped_byte_is_refused_and_the_one_before_is_used(workspace: Workspace, name: str) -> None:
    fold = make_run(workspace, steps=(10, 20), best=20)
    _flip(fold / "checkpoints" / "step-20" / name)
    reporter = Silent()
    loaded = load_model("run-001", workspace=workspace, reporter=reporter)
    assert loaded.source.name == "step-10"
    assert "step-20" in reporter.warnings[0]
    with pytest.raises(CheckpointError, match="sha256") as caught:
        load_model(fold / "checkpoints" / "step-20", workspace=workspace)
    assert caught.value.exit_code == 4
    _flip(fold / "checkpoints" / "step-10" / name)
    with pytest.raises(CheckpointError):
        load_model("run-001", workspace=workspace)


def test_a_shared_folder_is_all_that_loading_needs(workspace: Workspace, tmp_path: Path) -> None:
    make_run(workspace)
    loaded = load_model("run-001", workspace=workspace)
    folder = save_model(loaded, workspace.models / "liver-model")
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    elsewhere = Workspace(root=tmp_path / "elsewhere", origin="test")
    back = load_model(folder, workspace=elsewhere)
    assert load_model("liver-model", workspace=workspace).sha256 == back.sha256
    assert (back.plan, back.config, back.predict) == (loaded.plan, loaded.config, loaded.predict)
    for name, tensor in loaded.segmenter.state_dict().items():
        assert torch.equal(back.segmenter.state_dict()[name], tensor)
    with pytest.raises(ConfigError, match="exists"):
        save_model(loaded, folder)
    _flip(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="sha256"):
        load_model(folder, workspace=elsewhere)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "os.system"}, "unknown method"),
        ({"model": {"width": "many"}}, "configuration"),
        ({"model": {"__import__": "os"}}, "configuration"),
        ({"plan": None}, "configuration"),
        ({"kind": "backbone"}, "kind 'backbone'"),
        ({"schema_version": 99}, "schema 99"),
        ({"files": {}}, "does not name"),
        ({"files": {"model.safetensors": "x"}}, "cannot be read"),
    ],
)
def test_a_strange_model_card_is_one_line(workspace: Workspace, change: dict[str, object], says: str) -> None:
    make_run(workspace)
    folder = save_model(load_model("run-001", workspace=workspace), workspace.root / "shared")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **change}))
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load_model(folder, workspace=workspace)
    assert says in caught.value.line()
    assert "\n" not in caught.value.line()


def test_weights_of_another_model_are_refused(workspace: Workspace) -> None:
    fold = make_run(workspace)
    other = small_segmote(decoder_width=64).state_dict()
    Checkpoints(fold / "checkpoints", keep=9).save(
        Snapshot(model=other, optimizer={"x/step": torch.ones(1)}, state=TrainState(step=30), identity={})
    )
    with pytest.raises(CheckpointError, match="shape"):
        load_model("run-001", workspace=workspace)


def test_run_names_count_up_and_stay_inside(workspace: Workspace) -> None:
    assert next_run_name(workspace, dataset="liver", method="segmote") == "run-001"
    for name in ("run-002", "run-x", "mine"):
        (workspace.runs / "liver" / "segmote" / name).mkdir(parents=True)
    assert next_run_name(workspace, dataset="liver", method="segmote") == "run-003"
    for bad in ("../up", "a/b", "", ".hidden"):
        with pytest.raises(ConfigError, match="bad run name"):
            fold_folder(workspace, dataset="liver", method="segmote", run=bad, fold="0")


def test_a_runs_configuration_reads_back_with_its_origins(workspace: Workspace) -> None:
    fold = make_run(workspace)
    settings = [f"model.{key}={value}" for key, value in SMALL.items()]
    section = method("segmote").config_class()
    resolved = resolve(load_preset("segmote-tiny"), section, assignments=settings)
    back = resolve(read_config(fold), section)
    for name in ("plan", "model", "train", "augment", "predict"):
        assert getattr(back, name) == getattr(resolved, name)
    assert back.origins == resolved.origins
    assert back.preset == "segmote-tiny"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
