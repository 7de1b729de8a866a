"""The command line as strangers use it: help, typos, versions, start-up, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.tools.cli import ROOT, assert_one_line_error, medmoe_here

VERBS = (
    "convert",
    "check",
    "plan",
    "preprocess",
    "train",
    "predict",
    "evaluate",
    "merge-experts",
    "report",
    "demo",
    "doctor",
    "presets",
    "models",
)
HEAVY = ("torch", "nibabel", "transformers", "SimpleITK", "scipy", "matplotlib", "pydicom", "lightning_fabric")


def test_help_lists_exactly_the_verbs_that_work_and_the_exit_codes() -> None:
    ran = medmoe_here("--help")
    assert ran.code == 0
    for verb in VERBS:
        assert verb in ran.out
    assert "Exit codes" in ran.out


@pytest.mark.parametrize("arguments", [["--help"], *[[verb, "--help"] for verb in VERBS], ["presets", "list"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from medmoe_cli.app import run\n"
        f"code = run({arguments!r})\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "HEAVY [] 0" in done.stdout, done.stdout[-300:] + done.stderr[-2000:]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    ran = medmoe_here(verb, "--help")
    assert ran.code == 0
    assert "Usage: medmoe" in ran.out
    short = set(re.findall(r"(?<![\w-])-[a-z](?![\w-])", ran.out))
    assert short <= {"-i", "-o", "-m", "-d", "-j", "-q", "-v", "-p", "-g"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek", "x"], ["unknown command 'chek'", "check"]),
        (["check", "x", "--wrokers", "2"], ["unknown option '--wrokers'", "--workers"]),
        (["train", "--methd", "segmote"], ["unknown option '--methd'", "--method"]),
        (["train", "--method", "segmot", "--data", "x"], ["unknown method 'segmot'", "segmote"]),
        (["train", "--method", "segmote", "--data", "x", "--preset", "segmote-tyni"], ["segmote-tiny"]),
        (["presets", "show", "segmote-tyni"], ["did you mean 'segmote-tiny'"]),
        (["predict", "-i", "x"], ["--output"]),
        (["predict", "-i", "x", "-o", "y", "--shard", "3"], ["--shard 3", "1/4"]),
        (["--workspac", "x", "doctor"], ["--workspace"]),
    ],
)
def test_typos_are_errors_with_a_suggestion(arguments: list[str], words: list[str]) -> None:
    assert_one_line_error(medmoe_here(*arguments), 2, *words)


def test_global_options_stand_before_or_after_the_verb() -> None:
    before, after = medmoe_here("--json", "presets", "list"), medmoe_here("presets", "list", "--json")
    assert json.loads(before.out) == json.loads(after.out)
    assert len(json.loads(before.out)) >= 3


def test_doctor_tells_the_workspace_and_its_origin(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("elsewhere")
    found = json.loads(medmoe_here("doctor", "--json", "--workspace", str(home)).out)
    assert found["workspace"] == str(home)
    assert found["workspace_origin"] == "--workspace"
    assert found["packages"]["torch"]
    assert found["presets"] >= 3
    assert list(home.iterdir()) == []


def test_presets_show_prints_the_file_with_its_sources() -> None:
    ran = medmoe_here("presets", "show", "segmote-medseg-hq")
    assert ran.code == 0
    assert "learning_rate" in ran.out
    assert "#" in ran.out
    assert "next: medmoe train --method segmote" in ran.err
