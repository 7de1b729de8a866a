"""`medmoe demo`, shortened: every verb in one go, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.workflows.demo import DemoResult, run_demo
from tests.tools.cli import medmoe_here

SHORT = (
    "plan.input_size=64",
    "model.width=48",
    "model.depth=2",
    "train.steps=3",
    "train.workers=0",
    "train.queries_per_image=2",
)


class Lines(Silent):
    """Keeps the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, list[str]]:
    reporter = Lines()
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return run_demo(folder=folder, overwrite=False, settings=SHORT, reporter=reporter), reporter.lines


def test_every_step_shows_the_command_that_does_it(demo: tuple[DemoResult, list[str]]) -> None:
    result, lines = demo
    commands = [line.split()[2] for line in lines if line.startswith("$ medmoe")]
    assert commands == ["convert", "check", "plan", "train", "predict", "evaluate"]
    assert list(result.seconds) == ["phantoms", *commands]
    assert [row.name for row in result.rows] == ["liver", "spleen", "aorta"]
    assert all(0 <= row.dice <= 1 for row in result.rows)


def test_everything_it_names_is_there(demo: tuple[DemoResult, list[str]]) -> None:
    result, _ = demo
    for place in result.places.values():
        assert place.exists(), place
    assert sorted(path.name for path in result.places["previews"].iterdir()) == ["ct_10.png", "mr_11.png"]
    statistics = json.loads(result.places["statistics"].read_text())
    assert set(statistics["ct_10"]) == {"liver", "spleen", "aorta"}
    masks = result.places["masks"]
    records = [json.loads(path.read_text()) for path in masks.glob("run*.json")]
    assert {record["verb"] for record in records} == {"predict", "evaluate"}
    assert all(record["exit_code"] == 0 for record in records)


def test_an_earlier_demo_is_replaced_only_when_asked_and_nothing_else_ever(
    demo: tuple[DemoResult, list[str]], tmp_path: Path
) -> None:
    result, _ = demo
    with pytest.raises(ConfigError, match="a demo is there already"):
        run_demo(folder=result.folder, overwrite=False, settings=SHORT, reporter=Silent())
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(ConfigError, match="something else"):
        run_demo(folder=tmp_path, overwrite=True, settings=SHORT, reporter=Silent())
    assert (tmp_path / "thesis.docx").read_text() == "mine"


def test_the_commands_it_shows_work_when_they_are_typed(demo: tuple[DemoResult, list[str]], tmp_path: Path) -> None:
    result, lines = demo
    workspace = ["--workspace", str(result.folder / "workspace")]
    shown = {line.split()[2]: line.split()[2:] for line in lines if line.startswith("$ medmoe")}
    assert medmoe_here(*workspace, *shown["check"]).code == 0
    assert medmoe_here(*workspace, *shown["plan"]).code == 0
    ran = medmoe_here(*workspace, *shown["predict"])
    assert ran.code == 0, ran.err
    assert "cached" in ran.out
    ran = medmoe_here(*workspace, *shown["evaluate"])
    assert ran.code == 0
    assert "liver" in ran.out
