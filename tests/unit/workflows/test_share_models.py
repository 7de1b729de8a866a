"""A model leaves one workspace as a zip or a folder, enters another, and answers there as it did here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.postprocessing import Postprocessing, PostRule
from medmoe_cli.core.config.presets import load_preset, resolve, resolved_yaml
from medmoe_cli.core.engine.checkpoint import Checkpoints, Snapshot
from medmoe_cli.core.engine.state import TrainState
from medmoe_cli.core.models.registry import method
from medmoe_cli.core.nn.weights import tensor_shapes
from medmoe_cli.core.workflows.evaluate import run_evaluate
from medmoe_cli.core.workflows.model_files.export_model import export_model
from medmoe_cli.core.workflows.model_files.import_model import import_model
from medmoe_cli.core.workflows.model_files.model_folder import load_model
from medmoe_cli.core.workflows.model_files.run_folder import fold_folder
from medmoe_cli.core.workflows.model_files.shared_model import SharedEntry, is_tensors, limit_of
from medmoe_cli.core.workflows.models import list_models, show_model
from tests.tools.cli import assert_one_line_error, medmoe, medmoe_here
from tests.tools.datasets import write_nifti
from tests.tools.hostile_models import files_of
from tests.tools.models import untrained_model
from tests.tools.oracle import oracle_plan

AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
LABELS = {"liver": 1, "left | right": 2}


def make_run(workspace: Workspace) -> Path:
    """A fold as training leaves it: configuration, plan, dataset.json, one checkpoint, validation/summary.json."""
    folder = fold_folder(workspace, dataset="abdomen", method="segmote", run="run-001", fold="0").path
    settings = ["model.depth=2", "model.width=48"]
    resolved = resolve(load_preset("segmote-tiny"), method("segmote").config_class(), assignments=settings)
    plan = oracle_plan(labels=LABELS).model_copy(
        update={"method": "segmote", "preset": "segmote-tiny", "dataset": "abdomen"}
    )
    torch.manual_seed(3)
    segmenter = method("segmote").build(resolved.model, plan)
    atomic.write_text(folder / "config.resolved.yaml", resolved_yaml(resolved, header={"dataset": "abdomen"}))
    jsonio.write(folder / "plan.json", plan)
    facts = {"description": "Ten\nscans", "licence": "CC-BY-SA 4.0", "modality": "CT", "numTraining": 10}
    jsonio.write(
        folder / "dataset.json", {"labels": {"background": 0, **LABELS}, **facts, "patients": {"x": "Jane Doe"}}
    )
    Checkpoints(folder / "checkpoints", keep=2).save(
        Snapshot(
            model=segmenter.state_dict(), optimizer={"x/step": torch.ones(1)},
            state=TrainState(step=10, best_step=10, finished=True), identity={},
        )
    )  # fmt: skip
    for case in range(3):
        label = np.zeros((8, 8, 4), np.uint8)
        label[1:4, 1:4, 1:3] = 1
        label[5:7, 5:7, 1:3] = 2
        write_nifti(folder / "truth" / f"c{case}.nii.gz", label, AFFINE)
        label[1, 1 : 2 + case, 1] = 0
        write_nifti(folder / "masks" / f"c{case}.nii.gz", label, AFFINE)
    run_evaluate(
        predictions=folder / "masks", references=folder / "truth", output=folder / "validation",
        dataset=folder / "dataset.json", workers=1, reporter=Silent(),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(root=tmp_path_factory.mktemp("home"), origin="test")
    make_run(workspace)
    return workspace


def away(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path / "away", origin="test")


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("bundle", ["shared.zip", "shared"])
def test_a_run_exported_and_imported_elsewhere_predicts_bit_by_bit_the_same(
    home: Workspace, tmp_path: Path, bundle: str
) -> None:
    rng = np.random.default_rng(1)
    for number in range(2):
        write_nifti(tmp_path / "scans" / f"s{number}.nii.gz", rng.random((30, 24, 3)).astype(np.float32), AFFINE)
    ran = medmoe_here("--workspace", home.root, "models", "export", "run-001", "-o", tmp_path / bundle)
    assert ran.code == 0, ran.err
    assert f"next: medmoe models import {tmp_path / bundle} --name shared" in ran.err
    there = ("--workspace", tmp_path / "away")
    ran = medmoe_here(*there, "models", "import", tmp_path / bundle)
    assert ran.code == 0, ran.err
    assert "next: medmoe predict -i SCANS -o MASKS -m shared" in ran.err
    for where, name in ((home.root, "run-001"), (tmp_path / "away", "shared")):
        ran = medmoe_here(
            "--workspace", where, "predict", "-i", tmp_path / "scans", "-o", tmp_path / name, "-m", name,
            "--save-probabilities",
        )  # fmt: skip
        assert ran.code == 0, ran.err
    written = sorted(path.relative_to(tmp_path / "run-001") for path in (tmp_path / "run-001").rglob("*.nii.gz"))
    assert len(written) == 2 * 3
    for path in written:
        assert np.array_equal(voxels(tmp_path / "run-001" / path), voxels(tmp_path / "shared" / path)), path
    assert any(voxels(tmp_path / "shared" / path).any() for path in written)
    ours, theirs = load_model("run-001", workspace=home), load_model("shared", workspace=away(tmp_path))
    assert ours.sha256 == theirs.sha256


def test_an_export_is_the_same_bytes_each_time_and_goes_on_unchanged(home: Workspace, tmp_path: Path) -> None:
    paths = [tmp_path / part / "model.zip" for part in ("a", "b")]
    written = [export_model(workspace=home, model="run-001", output=path, reporter=Silent()) for path in paths]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert written[0].files == ("model.json", "LICENSE", "MODEL_CARD.md", "model.safetensors")
    assert not list(tmp_path.rglob(".tmp-*"))
    kept = import_model(workspace=away(tmp_path), source=paths[0], reporter=Silent())
    onward = export_model(workspace=away(tmp_path), model="model", output=tmp_path / "model", reporter=Silent())
    there = files_of(kept.folder)
    record = json.loads(there.pop("run.json"))
    assert (record["verb"], record["exit_code"]) == ("models import", 0)
    assert files_of(onward.path) == there
    assert json.loads((tmp_path / "run.json").read_text())["verb"] == "models export"
    for source, name in ((onward.path, "m2"), (kept.folder, "m3")):  # also straight from somebody's workspace
        again = import_model(workspace=away(tmp_path), source=source, name=name, reporter=Silent())
        assert {name: data for name, data in files_of(again.folder).items() if name != "run.json"} == there


def test_the_card_says_what_the_model_is_and_names_no_patient(home: Workspace, tmp_path: Path) -> None:
    path = export_model(workspace=home, model="run-001", output=tmp_path / "abdomen-ct", reporter=Silent()).path
    card, licence = (path / "MODEL_CARD.md").read_text(), (path / "LICENSE").read_text()
    for words in (
        "# abdomen-ct", "SegMoTE", "CVPR 2026", "- dataset: abdomen", "- description: Ten scans", "CC-BY-SA 4.0",
        "| 1 | liver |", "left \\| right", "On 3 held-out cases", "| class | Dice | HD95 | NSD | n |",
        "medmoe models import PATH --name abdomen-ct", "medmoe predict", "no medical device",
    ):  # fmt: skip
        assert words in card, words
    summary = json.loads(
        (fold_folder(home, dataset="abdomen", method="segmote", run="run-001", fold="0").path
         / "validation" / "summary.json").read_text()
    )  # fmt: skip
    assert f"| liver | {summary['mean']['1']['Dice']:.3f} (" in card
    assert f"| all | {summary['foreground_mean']['Dice']:.3f} (" in card
    assert "'abdomen': CC-BY-SA 4.0" in licence
    everything = b"".join(data for name, data in files_of(path).items() if not is_tensors(name))
    assert b"Jane" not in everything
    assert str(home.root).encode() not in everything


def test_a_licence_that_is_given_is_the_licence(home: Workspace, tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    export = ("--workspace", home.root, "models", "export", "run-001", "--licence", terms)
    terms.write_text("Do what you like.\n")
    ran = medmoe_here(*export, "-o", tmp_path / "m")
    assert ran.code == 0, ran.err
    assert (tmp_path / "m" / "LICENSE").read_text() == "Do what you like.\n"
    terms.write_text("  \n")
    assert_one_line_error(medmoe_here(*export, "-o", tmp_path / "n"), 3, "no licence text")
    assert not (tmp_path / "n").exists()


def test_rules_and_other_methods_travel_and_local_folders_do_not(tmp_path: Path) -> None:
    rules = Postprocessing(rules=(PostRule(label="a", keep="largest", reason="one piece in 10 of 10"),))
    made = untrained_model(
        tmp_path / "made", labels={"a": 1, "b": 2}, preset="moe-sam-tiny", settings=["model.weights=/home/jane/sam"],
        rules=rules,
    )  # fmt: skip
    export_model(workspace=away(tmp_path), model=str(made), output=tmp_path / "m.zip", reporter=Silent())
    kept = import_model(workspace=away(tmp_path), source=tmp_path / "m.zip", reporter=Silent())
    assert kept.method == "moe-sam"
    assert load_model("m", workspace=away(tmp_path)).postprocessing == rules
    assert "/home/jane" in (made / "model.json").read_text()
    assert "jane" not in (kept.folder / "model.json").read_text()


def test_nothing_is_overwritten_unasked(home: Workspace, tmp_path: Path) -> None:
    arguments = {"workspace": home, "model": "run-001", "reporter": Silent()}
    for name in ("m.zip", "m"):
        first = export_model(output=tmp_path / name, **arguments).path  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="the output exists"):
            export_model(output=first, **arguments)  # type: ignore[arg-type]
        export_model(output=first, overwrite=True, **arguments)  # type: ignore[arg-type]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    with pytest.raises(ConfigError, match="it holds something else"):
        export_model(output=tmp_path / "thesis", overwrite=True, **arguments)  # type: ignore[arg-type]
    assert (tmp_path / "thesis" / "chapter.tex").exists()
    target = away(tmp_path)
    import_model(workspace=target, source=tmp_path / "m.zip", reporter=Silent())
    with pytest.raises(ConfigError, match="model 'm' exists"):
        import_model(workspace=target, source=tmp_path / "m.zip", reporter=Silent())
    import_model(workspace=target, source=tmp_path / "m.zip", overwrite=True, reporter=Silent())
    assert sorted(path.name for path in target.models.iterdir()) == ["m"]


def test_imported_models_are_listed_shown_and_checked(home: Workspace, tmp_path: Path) -> None:
    export_model(workspace=home, model="run-001", output=tmp_path / "m.zip", reporter=Silent())
    target = away(tmp_path)
    folder = import_model(workspace=target, source=tmp_path / "m.zip", reporter=Silent()).folder
    found = list_models(target)
    assert [(entry.name, entry.problem) for entry in found.shared] == [("m", "")]
    assert not found.models
    there = ("--workspace", target.root)
    listed = json.loads(medmoe_here("--json", *there, "models", "list").out)
    assert listed["shared"][0]["method"] == "segmote"
    assert "abdomen" in medmoe_here(*there, "models", "list").out
    shown = show_model(target, "m")
    assert isinstance(shown, SharedEntry)
    ran = medmoe_here(*there, "models", "show", "m")
    assert ran.code == 0
    assert "liver, left | right" in ran.out
    (folder / "LICENSE").write_text("mine now")
    assert_one_line_error(medmoe_here(*there, "models", "show", "m"), 4, "LICENSE")
    (folder / "model.safetensors").unlink()
    assert "gone" in list_models(target).shared[0].problem
    (folder / "model.json").write_text('{"kind": "model"}')
    assert list_models(target).shared[0].record is None


def test_a_kill_in_the_middle_leaves_no_model_and_the_next_import_clears_up(home: Workspace, tmp_path: Path) -> None:
    export_model(workspace=home, model="run-001", output=tmp_path / "m.zip", reporter=Silent())
    command = ("--workspace", tmp_path / "away", "models", "import", tmp_path / "m.zip")
    assert medmoe(*command, env={"MEDMOE_FAILPOINT": "pre-replace"}).code == 137
    left = list((tmp_path / "away" / "models").iterdir())
    assert [path.name.startswith(".tmp-") for path in left] == [True]
    assert not list_models(away(tmp_path)).shared
    with pytest.raises(CheckpointError, match="unknown model 'm'"):
        load_model("m", workspace=away(tmp_path))
    assert medmoe_here(*command).code == 0
    assert [path.name for path in (tmp_path / "away" / "models").iterdir()] == ["m"]


def test_names_of_files_that_belong() -> None:
    allowed = ["model.json", "model.safetensors", "MODEL_CARD.md", "LICENSE", "experts/liver-2.safetensors"]
    refused = [
        "", ".", "..", "model.py", "experts", "experts/", "experts/.x.safetensors", "experts/a/b.safetensors",
        "experts/../x.safetensors", "/model.json", "Model.json", "model.json ", "experts\\x.safetensors",
        "experts/x.safetensors\n", "optimizer.safetensors", "experts/x.safetensors.py",
    ]  # fmt: skip
    assert all(limit_of(name) for name in allowed)
    assert not any(limit_of(name) for name in refused)


def test_shapes_are_read_from_the_header_alone(home: Workspace, tmp_path: Path) -> None:
    path = export_model(workspace=home, model="run-001", output=tmp_path / "m", reporter=Silent()).path
    loaded = load_model(path, workspace=home)
    assert tensor_shapes(path / "model.safetensors") == {
        name: tuple(tensor.shape) for name, tensor in loaded.segmenter.state_dict().items()
    }
    shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="weights not found"):
        tensor_shapes(path / "model.safetensors")
