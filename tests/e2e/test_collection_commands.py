"""Several datasets as one, through the command line: joined, checked, planned, trained on, predicted and reported."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medmoe_cli.core.base.hashing import file_sha256
from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.collections import make_members
from tests.tools.datasets import make_dataset

SEGMOTE = (
    "plan.input_size=64",
    "model.depth=2",
    "model.width=48",
    "model.decoder_width=32",
    "train.workers=0",
    "train.keep_checkpoints=3",
    "train.schedule=constant",
    "train.validation_limit=3",
)
MOE_SAM = ("plan.input_size=64", "train.workers=0")
VOLUMES = (
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
    "train.validation_limit=2",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(workspace: Path, *arguments: str | Path, json_: bool = False) -> Ran:
    return medmoe_here("--workspace", workspace, *(["--json"] if json_ else []), *arguments)


def train(workspace: Path, method: str, settings: tuple[str, ...], *arguments: str, data: str = "everything") -> Ran:
    sets = [part for setting in settings for part in ("--set", setting)]
    preset = f"{method}-tiny"
    return run(
        workspace, "train", "--method", method, "--data", data, "--preset", preset, "-d", "cpu", *sets, *arguments
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members of different kinds, their collection, and a finished run of two methods."""
    root = tmp_path_factory.mktemp("workspace")
    make_members(root / "datasets", cases=4)
    for done in (
        run(root, "convert", "collection", "--name", "everything", "--members", "heads,chests,skins"),
        train(root, "segmote", SEGMOTE, "--steps", "2", "--name", "first"),
        train(root, "moe-sam", MOE_SAM, "--steps", "2", "--name", "first"),
    ):
        assert done.code == 0, done.err
    return root


def test_the_collection_shows_which_names_became_one(workspace: Path) -> None:
    again = run(workspace, "convert", "collection", "--name", "dry", "--members", "heads,chests", "--dry-run")
    assert again.code == 0, again.err
    assert "chests: Spleen; heads: spleen" in again.out
    assert not (workspace / "datasets" / "dry").exists()
    content = json.loads((workspace / "datasets" / "everything" / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "right_kidney": 1, "skins_lesion": 2, "spleen": 3}
    (fold,) = json.loads((workspace / "datasets" / "everything" / "splits_final.json").read_text())
    assert {case.partition("/")[0] for case in fold["val"]} == {"heads", "chests", "skins"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "x", "--members", "heads,chsts"), "unknown member 'chsts'"),
        (("--name", "x"), "no members"),
        (("--members", "heads"), "missing --name"),
        (("--name", "everything", "--members", "heads"), "exists"),
        (("--name", "x", "--members", "heads", "--masks", "3"), "--masks does nothing"),
    ],
)
def test_a_collection_that_cannot_be_is_refused(workspace: Path, arguments: tuple[str, ...], words: str) -> None:
    assert_one_line_error(run(workspace, "convert", "collection", *arguments), 2, words)


def test_check_plan_and_preprocess_name_the_members(workspace: Path) -> None:
    checked = run(workspace, "check", "everything")
    assert checked.code == 0, checked.err
    for line in ("member heads: 4 training", "member chests: 7 training", "everything: 15 training"):
        assert line in checked.out, checked.out
    planned = run(workspace, "plan", "everything", "--method", "segmote", "--preset", "segmote-tiny", "--explain")
    assert planned.code == 0, planned.err
    flat = " ".join(planned.out.split())
    for words in (
        "heads: slice_axis: z: the coarsest axis",
        "heads: normalization: 'T1' percentile",
        "skins: normalization: 'R', 'G', 'B' rgb",
        "chests: channels: X-ray, X-ray, X-ray: repeated to 3",
        "channels: 3: skins is in colour",
    ):
        assert words in flat, (words, flat)
    done = run(
        workspace, "preprocess", "everything", "--method", "segmote", "--preset", "segmote-tiny",
        "--set", "plan.input_size=64",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "member heads: 4 cases, 20 slices" in done.out
    assert "15 reused" in done.out
    assert (workspace / "preprocessed" / "heads" / "fingerprint.json").is_file()


def test_the_run_keeps_every_members_rules_and_scores(workspace: Path) -> None:
    fold = workspace / "runs" / "everything" / "segmote" / "first" / "fold_0"
    plan = json.loads((fold / "plan.json").read_text())
    assert [member["dataset"] for member in plan["members"]] == ["heads", "chests", "skins"]
    assert [len(member["plan"]["channels"]) for member in plan["members"]] == [1, 1, 3]
    prompts = json.loads((fold / "validation" / "prompts.json").read_text())
    by_member = {member["score"]["dataset"]: member for member in prompts["members"]}
    assert set(by_member) == {"heads", "chests", "skins"}
    for member in by_member.values():
        assert {"box", "ellipse"} <= {way["way"] for way in member["ways"]}
    # Each is scored for its own classes: its instances are the validation's, member by member.
    assert {way for member in by_member.values() for one in member["ways"] for way in one["dice_per_class"]} == {
        "right_kidney",
        "spleen",
        "skins_lesion",
    }
    assert all(set(one["dice_per_class"]) <= {"spleen"} for one in by_member["chests"]["ways"])
    total = sum(one["num_instances"] for m in by_member.values() for one in m["ways"] if one["way"] == "box")
    assert total == next(one["num_instances"] for one in prompts["ways"] if one["way"] == "box")


@pytest.mark.parametrize("method", ["segmote", "moe-sam"])
def test_unknown_classes_are_not_counted(workspace: Path, method: str) -> None:
    validation = workspace / "runs" / "everything" / method / "first" / "fold_0" / "validation"
    summary = json.loads((validation / "summary.json").read_text())
    for unit in summary["metric_per_case"]:
        member = unit["case"].partition("/")[0]
        presence = {summary["labels"][key]: scores["presence"] for key, scores in unit["metrics"].items()}
        known = {"heads": {"right_kidney", "spleen"}, "chests": {"spleen"}, "skins": {"skins_lesion"}}[member]
        assert {name for name, where in presence.items() if where != "unknown"} == known
        own = json.loads((validation / "members" / member / "summary.json").read_text())
        (same,) = [one for one in own["metric_per_case"] if unit["case"] == f"{member}/{one['case']}"]
        assert sorted(
            scores["Dice"] for scores in same["metrics"].values() if scores["Dice"] is not None
        ) == pytest.approx(
            sorted(
                scores["Dice"]
                for key, scores in unit["metrics"].items()
                if scores["Dice"] is not None and summary["labels"][key] in known
            )
        )
    by_name = {entry["name"]: entry for entry in summary["classes"].values()}
    assert by_name["skins_lesion"]["n_units"] == 1
    assert by_name["spleen"]["n_units"] == 2


def test_training_resumes_to_the_bit(workspace: Path) -> None:
    assert train(workspace, "segmote", SEGMOTE, "--steps", "1", "--name", "parts").code == 0
    resumed = train(workspace, "segmote", SEGMOTE, "--steps", "2", "--name", "parts", "--resume")
    assert resumed.code == 0, resumed.err
    runs = workspace / "runs" / "everything" / "segmote"
    one, other = (runs / name / "fold_0" / "checkpoints" / "step-2" for name in ("first", "parts"))
    assert file_sha256(one / "model.safetensors") == file_sha256(other / "model.safetensors")
    refused = train(workspace, "segmote", (*SEGMOTE, "train.balance=1"), "--steps", "3", "--name", "parts", "--resume")
    assert_one_line_error(refused, 4, "train.balance")


def test_scans_are_shown_by_the_rules_of_their_member_and_scored_by_name(workspace: Path, tmp_path: Path) -> None:
    model = "everything/segmote/first"
    for member in ("heads", "skins"):
        data = workspace / "datasets" / member
        done = run(
            workspace, "predict", "-i", data / "imagesTr", "-o", tmp_path / member, "-m", model, "-d", "cpu",
            "--prompts-from", data / "labelsTr",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert f"shown as {member}" in done.err
        record = json.loads((tmp_path / member / "run.json").read_text())
        assert all(f"shown as {member}" in case["detail"] for case in record["cases"])
        scored = run(workspace, "evaluate", "-p", tmp_path / member, "-g", data / "labelsTr", json_=True)
        assert scored.code == 0, scored.err
        # A box holds its structure: by name the masks overlap, by number they would not.
        means = {
            entry["name"]: entry["metrics"]["Dice"]["mean"] for entry in json.loads(scored.out)["classes"].values()
        }
        assert set(means) == ({"kidney_right", "spleen"} if member == "heads" else {"lesion"})
        assert min(means.values()) > 0.3


def test_a_modality_may_be_said_and_is_guessed_aloud_otherwise(workspace: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(workspace / "datasets" / "heads" / "imagesTr" / "case_000_0000.nii.gz", scan)
    model = "everything/moe-sam/first"
    guessed = run(workspace, "predict", "-i", scan, "-o", tmp_path / "a", "-m", model, "-d", "cpu")
    assert guessed.code == 0, guessed.err
    assert "shown as heads (guessed: a volume" in guessed.err
    assert "--modality NAME says otherwise" in guessed.err
    said = run(workspace, "predict", "-i", scan, "-o", tmp_path / "b", "-m", model, "-d", "cpu", "--modality", "X-ray")
    assert said.code == 0, said.err
    assert "shown as chests (--modality X-ray)" in said.err
    masks = [np.asarray(nib.load(tmp_path / name / "scan.nii.gz").dataobj) for name in "ab"]
    assert not (masks[0] == masks[1]).all()  # the rules change what the network sees
    wrong = run(workspace, "predict", "-i", scan, "-o", tmp_path / "c", "-m", model, "-d", "cpu", "--modality", "PET")
    assert_one_line_error(wrong, 2, "no member of 'everything' is 'PET'", "MR, X-ray, dermoscopy")


def test_the_report_shows_each_member_and_its_experts(workspace: Path) -> None:
    done = run(workspace, "report", "everything/segmote/first")
    assert done.code == 0, done.err
    page = workspace / "runs" / "everything" / "segmote" / "first" / "fold_0" / "report" / "report.html"
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())
    for words in (
        "By member of the collection",
        "Each member's own rules",
        "Layer 1, by member",
        "heads (MR)",
        "skins (dermoscopy)",
        "over the members alike",
    ):
        assert words in text, words


def test_only_selected_masks_are_trained_on(workspace: Path) -> None:
    picked = workspace / "datasets" / "picked"
    shutil.copytree(workspace / "datasets" / "everything", picked)
    (picked / "selection.csv").write_text(
        "member,case,slice,class\n"
        + "".join(f"heads,case_{case:03d},2,spleen\n" for case in range(4))
        + "".join(f"skins,case_{case:03d},0,skins_lesion\n" for case in range(4))
    )
    done = train(workspace, "segmote", SEGMOTE, "--steps", "2", "--name", "first", data="picked")
    assert done.code == 0, done.err
    assert "heads 3 to train on (50% of the draws)" in done.err
    assert "skins 3 to train on (50% of the draws)" in done.err
    assert "chests 1 to validate on alone" in done.err


def test_volumes_train_together_too(workspace: Path) -> None:
    make_dataset(
        workspace / "datasets" / "chest-ct", cases=4, shape=(24, 20, 12), class_names=("Liver",), modality="CT"
    )
    made = run(workspace, "convert", "collection", "--name", "volumes", "--members", "heads,chest-ct")
    assert made.code == 0, made.err
    done = train(workspace, "sam-med3d-moe", VOLUMES, "--steps", "2", "--name", "first", data="volumes")
    assert done.code == 0, done.err
    assert "heads 6 to train on" in done.err
    plan = json.loads((workspace / "runs/volumes/sam-med3d-moe/first/fold_0/plan.json").read_text())
    assert [member["plan"]["channels"][0]["low"] for member in plan["members"]] == [None, -1000.0]
    flat = train(workspace, "sam-med3d-moe", VOLUMES, "--steps", "2")
    assert flat.code == 2
    assert "'chests' is of pictures" in flat.err


def test_a_dataset_that_is_not_there_says_what_is_and_how_it_comes_to_be(workspace: Path) -> None:
    missing = train(workspace, "segmote", SEGMOTE, data="medseg-hq")
    assert_one_line_error(missing, 3, "medseg-hq' is not built yet", "none of its datasets", "heads", "medmoe convert")
    shutil.copytree(workspace / "datasets" / "heads", workspace / "datasets" / "btcv")
    missing = train(workspace, "segmote", SEGMOTE, data="medseg-hq")
    shutil.rmtree(workspace / "datasets" / "btcv")
    assert_one_line_error(missing, 3, "members found: btcv (BTCV)", "fix: medmoe convert medseg-hq --name medseg-hq")
    near = run(workspace, "check", "heds")
    assert_one_line_error(near, 3, "did you mean 'heads'", "chests")
