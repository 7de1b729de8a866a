"""`medmoe plan` and `medmoe preprocess`: what they write, when they measure again, how they end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.workflows.configure import choose_preset
from medmoe_cli.core.workflows.plan import ensure_plan
from medmoe_cli.core.workflows.preprocess import ensure_preprocessed
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.datasets import make_dataset

PRESET = """
method: segmote
description: small
plan: {input_size: 64}
model: {backbone: tiny}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    make_dataset(tmp_path / "datasets" / "ph", cases=4, class_names=("kidney_left", "kidney_right"))
    (tmp_path / "small.yaml").write_text(PRESET)
    return Workspace(root=tmp_path, origin="test")


def run(workspace: Workspace, verb: str, *arguments: str, data: str = "ph") -> dict[str, object]:
    done = medmoe_here(
        verb, data, "--method", "segmote", "--preset", workspace.root / "small.yaml", "--workspace", workspace.root,
        "--json", *arguments,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def test_plan_writes_and_measures_once(workspace: Workspace) -> None:
    first = run(workspace, "plan")
    folder = workspace.preprocessed / "ph"
    assert first["measured"] is True
    assert (first["num_cases"], first["num_patients"], first["num_folds"]) == (4, 4, 4)
    assert {path.name for path in folder.iterdir()} == {
        "fingerprint.json", "inputs.json", "splits_final.json", "plans",
    }  # fmt: skip
    plan = Plan.model_validate_json((folder / "plans" / "small.json").read_text())
    assert plan.input_size == 64
    assert plan.model_dump(mode="json") == first["plan"]
    record = json.loads((folder / "plans" / "run.json").read_text())
    assert (record["verb"], record["exit_code"]) == ("plan", 0)
    assert len(record["cases"]) == 4
    second = run(workspace, "plan", "--set", "plan.batch_size=7")
    assert second["measured"] is False
    assert json.loads((folder / "plans" / "small.json").read_text())["batch_size"] == 7


def test_a_touched_file_is_read_again_a_changed_one_measured_again(workspace: Workspace) -> None:
    run(workspace, "plan")
    path = workspace.datasets / "ph" / "imagesTr" / "case_002_0000.nii.gz"
    os.utime(path, (1, 1))
    assert run(workspace, "plan")["measured"] is False
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 5, image.affine, image.header), path)
    assert run(workspace, "plan")["measured"] is True
    (workspace.preprocessed / "ph" / "fingerprint.json").write_text("{}")
    assert run(workspace, "plan")["measured"] is True


def test_explain_has_a_line_per_value(workspace: Workspace) -> None:
    done = medmoe_here(
        "plan", "ph", "--method", "segmote", "--preset", workspace.root / "small.yaml", "--explain",
        "--workspace", workspace.root,
    )  # fmt: skip
    assert done.code == 0
    lines = done.out.splitlines()
    assert "slice_axis: z: the coarsest axis of the median spacing 1x1x2 mm" in lines
    assert (
        "mirror_axes: horizontal off: 'kidney_left' tells left-right; vertical off: scans have an up and a down"
        in lines
    )
    assert sum(":" in line for line in lines) >= 10
    assert "next: medmoe train --method segmote --data ph" in done.err


def test_preprocess_reuses(workspace: Workspace) -> None:
    first = run(workspace, "preprocess")
    assert (first["num_cases"], first["num_reused"], first["num_samples"]) == (4, 0, 48)
    second = run(workspace, "preprocess", "--workers", "1")
    assert (second["num_cases"], second["num_reused"]) == (4, 4)
    assert second["folder"] == first["folder"]
    record = json.loads((Path(str(first["folder"])) / "run.json").read_text())
    assert [case["status"] for case in record["cases"]] == ["cached"] * 4
    # Another input size is another folder; both stay.
    third = run(workspace, "preprocess", "--set", "plan.input_size=96")
    assert third["folder"] != first["folder"]
    assert third["num_reused"] == 0
    assert run(workspace, "preprocess")["num_reused"] == 4


def test_a_stray_file_in_the_store_is_no_case(workspace: Workspace) -> None:
    folder = Path(str(run(workspace, "preprocess")["folder"]))
    (folder / "case_000.case.json").write_text("[]")
    assert run(workspace, "preprocess")["num_reused"] == 3


def test_ensure_needs_no_writing_and_no_reading_when_all_is_there(workspace: Workspace) -> None:
    def planned(*, write: bool):  # type: ignore[no-untyped-def]
        return ensure_plan(
            workspace=workspace,
            dataset=open_dataset(workspace.dataset("ph")),
            method="segmote",
            preset="small",
            overrides=PlanConfig(input_size=64),
            workers=1,
            reporter=Silent(),
            write=write,
        )

    dry = planned(write=False)
    assert not workspace.preprocessed.exists()
    wet = planned(write=True)
    assert (wet.plan, wet.fingerprint, wet.inputs) == (dry.plan, dry.fingerprint, dry.inputs)
    ready = ensure_preprocessed(wet, workers=1, reporter=Silent())
    assert (ready.num_reused, len(ready.records)) == (0, 4)
    before = {path: path.stat().st_mtime_ns for path in ready.store.folder.iterdir()}
    again = ensure_preprocessed(planned(write=True), workers=1, reporter=Silent())
    assert (again.num_reused, again.records) == (4, ready.records)
    assert {path: path.stat().st_mtime_ns for path in ready.store.folder.iterdir()} == before


def test_absent_classes_and_new_cases_are_warned_of(workspace: Workspace) -> None:
    run(workspace, "plan")
    root = workspace.datasets / "ph"
    for kind, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (root / kind / f"new{suffix}.nii.gz").write_bytes((root / kind / f"case_000{suffix}.nii.gz").read_bytes())
    content = json.loads((root / "dataset.json").read_text())
    content["labels"]["bladder"] = 3
    content["numTraining"] = 5
    (root / "dataset.json").write_text(json.dumps(content))
    warnings = run(workspace, "plan")["warnings"]
    assert isinstance(warnings, list)
    assert any("'bladder' (value 3) occurs in no training case" in text for text in warnings)
    assert any("1 cases are in no fold" in text and "new" in text for text in warnings)


@pytest.mark.parametrize("verb", ["plan", "preprocess"])
def test_every_mistake_is_one_line(workspace: Workspace, tmp_path: Path, verb: str) -> None:
    where = ("--workspace", workspace.root)
    small = ("--preset", workspace.root / "small.yaml")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line_error(medmoe_here(verb, "phh", "--method", "segmote", *small, *where), 3, "did you mean 'ph'")
    assert_one_line_error(medmoe_here(verb, empty, "--method", "segmote", *small, *where), 3, "medmoe convert")
    assert_one_line_error(medmoe_here(verb, "ph", "--method", "segmot", *small, *where), 2, "did you mean 'segmote'")
    assert_one_line_error(
        medmoe_here(verb, "ph", "--method", "segmote", "--preset", "segmote-tinny", *where), 2, "tiny"
    )
    assert_one_line_error(
        medmoe_here(verb, "ph", "--method", "segmote", *small, "--set", "plan.input_siz=64", *where), 2, "input_size"
    )
    assert_one_line_error(
        medmoe_here(verb, "ph", "--method", "segmote", *small, "--wokers", "2", *where), 2, "--workers"
    )
    other = tmp_path / "other.yaml"
    other.write_text("method: moe-sam\ndescription: x\n")
    assert_one_line_error(
        medmoe_here(verb, "ph", "--method", "segmote", "--preset", other, *where), 2, "is for another method"
    )
    broken = workspace.datasets / "ph" / "imagesTr" / "case_001_0000.nii.gz"
    broken.write_text("not an image at all")
    assert_one_line_error(medmoe_here(verb, "ph", "--method", "segmote", *small, *where), 3, "case_001_0000.nii.gz")
    assert not list(workspace.preprocessed.rglob("*.b2nd"))


def test_the_preset_follows_the_backbones_that_are_there(workspace: Workspace) -> None:
    chosen = choose_preset(workspace, "segmote", None)
    assert chosen.preset.name == "segmote-tiny"
    assert "sam-vit-b" in chosen.why
    (workspace.models / "sam-vit-b").mkdir(parents=True)
    assert choose_preset(workspace, "segmote", None).preset.name == "segmote-medseg-hq"
    assert choose_preset(workspace, "segmote", "segmote-tiny").why == ""
