"""`medmoe merge-experts` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmoe_cli.core.base.workspace import Workspace
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.merging import FEW_STEPS, expert_model, general_model, merging_plan, put_model, standard_workspace

SETTINGS = [part for value in FEW_STEPS for part in ("--set", value)] + ["--steps", "2", "-d", "cpu"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return standard_workspace(tmp_path_factory.mktemp("merge-command"), experts=("lungs", "bones"))


def test_a_merge_says_what_was_gained_and_lost_and_what_to_type_next(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    where = ["--workspace", workspace.root]
    ran = medmoe_here(
        *where, "merge-experts", "--general", "base", "--expert", "lungs=lungs-model", "-o", folder, *SETTINGS
    )
    assert ran.code == 0, ran.err
    for word in ("hearts: heart", "lungs: lungs part", "general", "merged", "forgetting, points", "without lungs"):
        assert word in ran.out
    assert f"next: medmoe predict -i SCANS -o MASKS -m {folder}" in ran.err
    record = json.loads((folder / "run.json").read_text())
    assert (record["verb"], record["exit_code"], record["seed"]) == ("merge-experts", 0, 0)
    grown = medmoe_here(*where, "merge-experts", "--into", folder, "--expert", "bones=bones-model", "--json", *SETTINGS)
    assert grown.code == 0, grown.err
    result = json.loads(grown.out)
    assert result["experts"] == ["lungs", "bones"]
    assert result["report"] == json.loads((folder / "report.json").read_text())
    assert len(result["report"]["routing"]["counts"]) == 3


def test_an_expert_of_another_general_model_is_refused_with_the_tensor(workspace: Workspace, tmp_path: Path) -> None:
    own = merging_plan("lungs", ("lungs part",))
    stranger = put_model(tmp_path / "stranger", expert_model(general_model(own, seed=9), own, seed=1), own)
    other = merging_plan("bones", ("bones part",), spacing_mm=(1.0, 1.0, 1.0))
    finer = put_model(tmp_path / "finer", expert_model(general_model(own), other, seed=1), other)
    ran = medmoe_here(
        *("--workspace", workspace.root, "merge-experts", "--general", "base"),
        *("--expert", f"lungs={stranger}", "--expert", f"bones={finer}", "-o", tmp_path / "out"),
    )
    assert ran.code == 4
    assert "Traceback" not in ran.err
    assert any("image encoder: tensor image_encoder." in line and "'lungs'" in line for line in ran.error_lines)
    assert any("plan.spacing_mm: 1 x 1 x 1, not 2 x 2 x 2" in line and "'bones'" in line for line in ran.error_lines)
    assert not (tmp_path / "out").exists()


def test_data_of_the_experts_alone_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    ran = medmoe_here(
        *("--workspace", workspace.root, "merge-experts", "--general", "base", "--expert", "lungs=lungs-model"),
        *("--data", "lungs", "-o", tmp_path / "out"),
    )
    assert_one_line_error(ran, 2, "no data of the general model's own tasks", "--data general=DATASET")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--expert", "lungs"], 2, "NAME=MODEL"),
        (["--expert", "general=lungs-model"], 2, "general model's own name"),
        (["--expert", "lungs=lungs-mdel", "-o", "out"], 4, "did you mean 'lungs-model'"),
        (["--expert", "lungs=lungs-model", "-o", "out", "--tau", "half"], 2, "--tau"),
        (["--expert", "lungs=lungs-model", "-o", "out", "--fuse", "logit"], 2, "did you mean 'logits'"),
        (["--expert", "lungs=lungs-model", "--into", "base"], 2, "--general and --into"),
    ],
)
def test_mistakes_are_said_in_one_line(workspace: Workspace, arguments: list[str], code: int, word: str) -> None:
    ran = medmoe_here("--workspace", workspace.root, "merge-experts", "--general", "base", *arguments)
    assert_one_line_error(ran, code, word)
