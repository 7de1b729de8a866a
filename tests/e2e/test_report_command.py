"""`medmoe report` as a user types it: on a finished run, on runs that lack parts, and where it must refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from medmoe_cli.core.models.registry import method_names
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.datasets import make_dataset
from tests.tools.reports import ReadPage

SETTINGS = {
    "moe-sam": ("plan.input_size=32", "model.depth=2", "model.width=32", "model.heads=2", "model.decoder_width=32"),
    "segmote": ("plan.input_size=64", "model.depth=2", "model.width=48", "model.decoder_width=32"),
}
SECTIONS = (
    "What this is", "Result", "Best, median and worst case", "Training", "What was decided from the data",
    "Post-processing", "Experts", "Feature maps", "Size of the network", "How to reproduce it", "Every case", "Words",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a short run of each method that trains on slices."""
    root = tmp_path_factory.mktemp("workspace")
    make_dataset(root / "datasets" / "phantom", cases=6, classes=2, shape=(24, 24, 4))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for method, settings in SETTINGS.items():
        sets = [part for setting in (*settings, "train.workers=0") for part in ("--set", setting)]
        command = ["train", "--method", method, "--data", "phantom", "--preset", f"{method}-tiny", "--steps", "3"]
        done = medmoe_here("--workspace", root, *command, "--name", f"{method}-run", "-d", "cpu", *sets)
        assert done.code == 0, done.err
    torch.set_num_threads(threads)
    return root


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    """A copy whose runs a test may damage; its dataset is the original, where validation read it."""
    shutil.copytree(trained, tmp_path / "w")
    return tmp_path / "w"


def fold_of(workspace: Path, method: str) -> Path:
    return workspace / "runs" / "phantom" / method / f"{method}-run" / "fold_0"


def test_the_methods_reported_on_are_methods() -> None:
    assert set(SETTINGS) <= set(method_names())


def test_a_finished_run_gets_one_whole_page_with_everything_on_it(trained: Path, tmp_path: Path) -> None:
    ran = medmoe_here("--workspace", trained, "report", "moe-sam-run", "-o", tmp_path / "r")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == f"report: {tmp_path / 'r' / 'report.html'}"
    assert "next: medmoe predict -i SCANS -o MASKS -m phantom/moe-sam/moe-sam-run/fold_0" in ran.err
    page = ReadPage((tmp_path / "r" / "report.html").read_text())
    assert "script" not in page.tags
    assert page.outside == []
    assert page.links == page.anchors
    for section in SECTIONS:
        assert section in page.text
    assert "Not shown: " not in page.text.replace("Not shown: HD95", "")
    assert "given nothing but the scan" in page.text
    assert all(page.alts)
    files = {path.read_bytes() for path in (tmp_path / "r").glob("*.png")}
    assert files == set(page.pictures)
    names = {path.stem for path in (tmp_path / "r").glob("*.png")}
    assert names >= {"case-best", "case-worst", "cases-dice", "training-loss", "features", "features-layers"}
    assert {"routing-feb-choices", "routing-feb-layers"} <= names


def test_the_page_says_the_numbers_of_the_summary(trained: Path, tmp_path: Path) -> None:
    assert medmoe_here("--workspace", trained, "report", "segmote-run", "-o", tmp_path).code == 0
    text = ReadPage((tmp_path / "report.html").read_text()).text
    summary = json.loads((fold_of(trained, "segmote") / "validation" / "summary.json").read_text())
    for item in summary["classes"].values():
        assert f"{item['name']} {item['metrics']['Dice']['mean']:.3f} (" in text
    for unit in summary["metric_per_case"]:
        assert unit["case"] in text
    assert "a box around each structure" in text  # what the masks were made from is no small print
    assert "an ellipse in the box" in text
    assert "SegMoTE offers none to look at" in text


def test_json_and_the_record_tell_what_was_written_and_what_is_missing(trained: Path, tmp_path: Path) -> None:
    ran = medmoe_here("--workspace", trained, "report", "segmote-run", "-o", tmp_path, "--json")
    found = json.loads(ran.out)
    assert found["run"] == "phantom/segmote/segmote-run/fold_0"
    assert Path(found["page"]).is_file()
    assert all(Path(path).is_file() for path in found["pictures"])
    assert "feature maps" in {item["part"] for item in found["missing"]}
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["verb"] == "report"
    assert record["exit_code"] == 0
    assert set(record["outputs"]) == {found["page"], *found["pictures"]}
    assert len(record["warnings"]) == len(found["missing"])


def test_by_default_it_lies_in_the_run_and_a_second_one_is_the_same(workspace: Path) -> None:
    fold = fold_of(workspace, "moe-sam")
    folder = fold / "report"
    assert medmoe_here("--workspace", workspace, "report", fold).code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}
    stale, kept = folder / "case-only.png", folder / "my-own.png"
    stale.write_bytes(b"left by an earlier report")
    kept.write_bytes(b"somebody else's")
    record = json.loads((folder / "run.json").read_text())
    record["outputs"].append(str(stale))
    (folder / "run.json").write_text(json.dumps(record))
    assert medmoe_here("--workspace", workspace, "report", "moe-sam-run").code == 0
    assert not stale.exists()
    assert kept.read_bytes() == b"somebody else's"
    kept.unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"} == before


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        (("validation",), ["no validation/summary.json", "--resume"]),
        (("validation/routing.json", "postprocessing.json", "log.jsonl", "run.json", "checkpoints"), [
            "no validation/routing.json",
            "no postprocessing.json",
            "no log.jsonl",
            "no run.json of its training",
            "weights cannot be read",
        ]),
    ],
)  # fmt: skip
def test_a_run_that_lacks_parts_is_reported_with_the_reasons(
    workspace: Path, removed: tuple[str, ...], words: list[str]
) -> None:
    fold = fold_of(workspace, "moe-sam")
    for name in removed:
        shutil.rmtree(fold / name) if (fold / name).is_dir() else (fold / name).unlink()
    ran = medmoe_here("--workspace", workspace, "report", fold, "--json")
    assert ran.code == 0, ran.err
    text = ReadPage((fold / "report" / "report.html").read_text()).text
    for section in SECTIONS:
        assert section in text
    for word in words:
        assert word in text
        assert any(word in item["why"] for item in json.loads(ran.out)["missing"])


def test_cases_whose_masks_are_damaged_are_named_and_the_rest_is_shown(workspace: Path) -> None:
    fold = fold_of(workspace, "segmote")
    for mask in (fold / "validation" / "masks").glob("*.nii.gz"):
        mask.write_bytes(b"no mask")
    ran = medmoe_here("--workspace", workspace, "report", fold, "--json")
    assert ran.code == 0, ran.err
    parts = [item["part"] for item in json.loads(ran.out)["missing"]]
    assert [part.split(",")[0] for part in parts[:2]] == ["best case", "worst case"]
    assert (fold / "report" / "cases-dice.png").is_file()


def test_without_the_dataset_the_numbers_stay_and_the_pictures_say_why(workspace: Path, trained: Path) -> None:
    fold = fold_of(workspace, "moe-sam")
    summary = fold / "validation" / "summary.json"
    summary.write_text(summary.read_text().replace(str(trained), "/gone"))
    shutil.rmtree(workspace / "datasets")
    ran = medmoe_here("--workspace", workspace, "report", fold, "--json")
    assert ran.code == 0, ran.err
    missing = {item["part"]: item["why"] for item in json.loads(ran.out)["missing"]}
    assert "phantom" in missing["cases"]
    assert "phantom" in missing["feature maps"]
    assert "Result per structure" in (fold / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("validation/summary.json", "{", 3),
        ("validation/summary.json", '{"n_cases": "many"}', 3),
        ("validation/routing.json", '{"places": 3}', 3),
        ("postprocessing.json", "[]", 3),
        ("log.jsonl", "no json\n{}\n", 3),
        ("plan.json", "{}", 4),
    ],
)
def test_a_damaged_file_is_an_error_and_nothing_is_written(workspace: Path, file: str, content: str, code: int) -> None:
    fold = fold_of(workspace, "moe-sam")
    (fold / file).write_text(content)
    assert_one_line_error(medmoe_here("--workspace", workspace, "report", fold), code, Path(file).name, "fix:")
    assert not (fold / "report").exists()


def test_what_is_no_run_or_no_place_for_a_report_is_refused(workspace: Path, tmp_path: Path) -> None:
    head = ("--workspace", workspace, "report")
    assert_one_line_error(medmoe_here(*head, "moe-sam-rum"), 4, "moe-sam-run")
    assert_one_line_error(medmoe_here(*head, tmp_path), 4)
    (tmp_path / "file").write_text("x")
    assert_one_line_error(medmoe_here(*head, "moe-sam-run", "-o", tmp_path / "file"), 2, "not a folder")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("<html>my own</html>")
    assert_one_line_error(medmoe_here(*head, "moe-sam-run", "-o", tmp_path / "mine"), 2, "report.html")
    assert (tmp_path / "mine" / "report.html").read_text() == "<html>my own</html>"
