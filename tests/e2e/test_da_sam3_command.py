"""DA-SAM3 as a user types it: train, ask by name for what it knows and what it does not, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.datasets import make_dataset
from tests.tools.reports import ReadPage

SETTINGS = (
    "plan.input_size=32", "model.patch_size=4", "model.vision_width=32", "model.vision_depth=1", "model.vision_heads=2",
    "model.stem_channels=8", "model.text_width=32", "model.text_depth=1", "model.width=32", "model.heads=2",
    "model.mlp=64", "model.decoder_layers=2", "model.queries=4", "model.rank=2", "model.calibrate_share=0.5",
    "train.warmup_steps=0", "train.validation_every=1", "train.validation_limit=8",
)  # fmt: skip
CLASSES = ("liver", "left_kidney")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset and a finished run of four steps, two in each stage."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "organs", cases=6, classes=2, shape=(24, 20, 4), class_names=CLASSES, tests=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    command = ["train", "--method", "da-sam3", "--data", "organs", "--preset", "da-sam3-tiny", "-d", "cpu"]
    done = medmoe_here("--workspace", root, *command, "--steps", "4", "--name", "first", *sets)
    assert done.code == 0, done.err
    yield root
    torch.set_num_threads(threads)


def fold(workspace: Path) -> Path:
    return workspace / "runs" / "organs" / "da-sam3" / "first" / "fold_0"


def predict(workspace: Path, to: Path, *texts: str) -> Ran:
    scans = workspace / "datasets" / "organs" / "imagesTs"
    asked = [part for text in texts for part in ("--text", text)]
    return medmoe_here("--workspace", workspace, "predict", "-i", scans, "-o", to, "-m", "first", "-d", "cpu", *asked)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_both_stages_train_and_validation_counts_experts_by_structure(workspace: Path) -> None:
    lines = [json.loads(line) for line in (fold(workspace) / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["adapt", "calibrate"]
    places = json.loads((fold(workspace) / "validation" / "routing.json").read_text())["places"]
    assert list(places) == ["layer1", "layer2", "layer3"]
    for place in places.values():
        assert place["kind"] == "items choose"
        assert place["item"] == "token"
        assert set(place["classes"]) == set(CLASSES)
        # Two of four experts for each of 8 x 8 tokens, on each slice of each case.
        assert all(sum(counts) % (2 * 8 * 8) == 0 for counts in place["classes"].values())


def test_known_names_in_any_spelling(workspace: Path, tmp_path: Path) -> None:
    ran = predict(workspace, tmp_path, "LEFT kidney", "Liver")
    assert ran.code == 0, ran.err
    assert "not a class" not in ran.err
    (case,) = record(tmp_path)["cases"]
    assert set(case["concepts"]) == set(CLASSES)
    mask = np.asarray(nib.load(tmp_path / "case_006.nii.gz").dataobj)
    for value, name in enumerate(CLASSES, start=1):
        concept = case["concepts"][name]
        assert concept["trained"] is True
        assert 0 <= concept["presence"] <= 1
        assert concept["mask"] == ("found" if (mask == value).any() else "absent")
    assert json.loads((tmp_path / "dataset.json").read_text())["labels"] == {
        "background": 0, "liver": 1, "left_kidney": 2,
    }  # fmt: skip


def test_unknown_words_are_allowed_and_flagged(workspace: Path, tmp_path: Path) -> None:
    ran = predict(workspace, tmp_path / "m", "livre", "spiculated nodule", "liver")
    assert ran.code == 0, ran.err
    words = (
        "not a class this model was trained on: 'livre' (label value 3; did you mean 'liver'?), "
        "'spiculated nodule' (label value 4)"
    )
    assert sum(words in line for line in ran.err.splitlines()) == 1
    found = record(tmp_path / "m")
    assert found["warnings"] == [words]
    concepts = found["cases"][0]["concepts"]
    assert {name: one["trained"] for name, one in concepts.items()} == {
        "liver": True, "livre": False, "spiculated nodule": False,
    }  # fmt: skip
    labels = json.loads((tmp_path / "m" / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "liver": 1, "left_kidney": 2, "livre": 3, "spiculated nodule": 4}
    references = workspace / "datasets" / "organs" / "labelsTs"
    scored = medmoe_here("--workspace", workspace, "evaluate", "-p", tmp_path / "m", "-g", references)
    assert scored.code == 0, scored.err


def test_order_and_company_do_not_change_what_a_name_finds(workspace: Path, tmp_path: Path) -> None:
    def presence(to: str, *texts: str) -> dict[str, float]:
        assert predict(workspace, tmp_path / to, *texts).code == 0
        return {name: one["presence"] for name, one in record(tmp_path / to)["cases"][0]["concepts"].items()}

    there = presence("there", "liver", "left kidney", "gallstone")
    back = presence("back", "gallstone", "left kidney", "liver")
    alone = presence("alone", "gallstone")
    assert there == back
    assert alone["gallstone"] == pytest.approx(there["gallstone"], abs=2e-4)
    masks = [(tmp_path / to / "case_006.nii.gz").read_bytes() for to in ("there", "back")]
    assert masks[0] == masks[1]


def test_prompts_of_other_kinds_are_refused_in_one_line(workspace: Path, tmp_path: Path) -> None:
    data = workspace / "datasets" / "organs"
    command = ["predict", "-i", data / "imagesTs", "-o", tmp_path / "m", "-m", "first"]
    ran = medmoe_here("--workspace", workspace, *command, "--prompts-from", data / "labelsTs", "--prompt-type", "box")
    assert_one_line_error(ran, 2, "does not answer box prompts", "text")
    assert_one_line_error(predict(workspace, tmp_path / "m", "a/b"), 2, "cannot name a label 'a/b'")


def test_the_report_shows_depths_structures_stages_and_parts(workspace: Path, tmp_path: Path) -> None:
    ran = medmoe_here("--workspace", workspace, "report", "first", "-o", tmp_path)
    assert ran.code == 0, ran.err
    page = ReadPage((tmp_path / "report.html").read_text())
    for words in (
        "Which expert works on which structure",
        "Layer 1", "Layer 2", "Layer 3", "left kidney",
        "in 2 stages (shaded in turn): 'adapt' to step 2, 'calibrate' to step 4",
        "routers", "experts", "trained in stage 'adapt'", "trained in stage 'calibrate'",
        "the structures' names alone",
    ):  # fmt: skip
        assert words in page.text, words


def test_a_shared_model_says_that_it_takes_any_words(workspace: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    assert medmoe_here("--workspace", workspace, "models", "export", "first", "-o", shared).code == 0
    card = (shared / "MODEL_CARD.md").read_text()
    assert "any other words" in card
    assert "-m shared --text liver" in card
    scans = workspace / "datasets" / "organs" / "imagesTs"
    ran = medmoe_here(
        "--workspace", tmp_path / "elsewhere", "predict", "-i", scans, "-o", tmp_path / "m", "-m", shared,
        "--text", "gallstone", "-d", "cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert predict(workspace, tmp_path / "n", "gallstone").code == 0
    assert record(tmp_path / "m")["cases"][0]["concepts"] == record(tmp_path / "n")["cases"][0]["concepts"]
