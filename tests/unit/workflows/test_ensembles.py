"""Which models may be averaged, and what an ensemble is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmoe_cli.core.base.errors import CheckpointError, ConfigError, ProblemList
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import ChannelPlan
from medmoe_cli.core.config.postprocessing import Postprocessing, PostRule
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, load_model, save_model
from medmoe_cli.core.workflows.predict import PredictOptions
from medmoe_cli.core.workflows.predicting.ensemble import Ensemble, assemble, load_models
from tests.tools.models import untrained, untrained_model
from tests.tools.oracle import oracle_plan

LABELS = {"liver": 1, "spleen": 2}
RULES = Postprocessing(rules=(PostRule(label="liver", keep="largest", reason="seen"),))
BOXES = PromptsFile.model_validate(
    {"schema": 1, "space": "voxel", "cases": {"scan": [{"label": "liver", "box": [1, 1, 0, 9, 9, 1]}]}}
)


def load(tmp_path: Path, *names: str) -> tuple[LoadedModel, ...]:
    workspace = Workspace(root=tmp_path, origin="test")
    return load_models([str(tmp_path / name) for name in names], workspace=workspace, reporter=Silent())


def together(models: tuple[LoadedModel, ...], prompts: PromptsFile | None = None, **options: Any) -> Ensemble:
    compute = resolve_compute("cpu", "32")
    return assemble(models, compute=compute, options=PredictOptions(**options), prompts=prompts)


def test_every_difference_is_said_at_once_with_both_models(tmp_path: Path) -> None:
    untrained_model(tmp_path / "one", labels=LABELS)
    other = oracle_plan(labels={"liver": 1, "kidney": 2}, slice_axis=0)
    channels = tuple(ChannelPlan(name=name, normalization="none") for name in ("T1", "T2"))
    untrained_model(
        tmp_path / "two", labels=LABELS, plan=other.model_copy(update={"channels": channels}), preset="moe-sam-tiny"
    )
    with pytest.raises(ProblemList) as caught:
        load(tmp_path, "one", "two")
    assert caught.value.exit_code == 4
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 4
    for line, key in zip(lines, ("plan.labels", "plan.channels", "plan.slice_axis", "task"), strict=True):
        assert key in line
        assert str(tmp_path / "one") in line
        assert str(tmp_path / "two") in line
    assert "kidney, liver in" in lines[0]


def test_the_order_of_naming_means_nothing(tmp_path: Path) -> None:
    untrained_model(tmp_path / "one", labels=LABELS, seed=1)
    untrained_model(tmp_path / "two", labels=LABELS, seed=2)
    there, back = (together(load(tmp_path, *names)) for names in (("one", "two"), ("two", "one")))
    assert there.names == back.names
    assert there.identity() == back.identity()
    assert there.identity() != together(load(tmp_path, "one")).identity()
    with pytest.raises(ConfigError, match="same model twice"):
        load(tmp_path, "one", "one")


def test_prompts_that_only_some_models_answer_are_refused(tmp_path: Path) -> None:
    segmote = untrained(tmp_path / "segmote", labels={"liver": 1})
    without = untrained(tmp_path / "without", labels={"liver": 1}, seed=1, settings=["model.text=none"])
    assert "text" in segmote.segmenter.prompt_kinds
    assert "text" not in without.segmenter.prompt_kinds
    with pytest.raises(CheckpointError, match=r"prompts: .*segmote answers .*text.*it answers box"):
        together((segmote, without), text=("liver",))
    assert len(together((segmote, without), BOXES).sources) == 2
    automatic = untrained(tmp_path / "automatic", labels=LABELS, preset="moe-sam-tiny")
    with pytest.raises(ConfigError, match="does not answer box prompts"):
        together((automatic,), BOXES)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    from tests.tools.datasets import write_nifti

    first = untrained(tmp_path / "a", labels=LABELS, preset="moe-sam-tiny", seed=1)
    plan = oracle_plan(labels={"spleen": 1, "liver": 2})
    second = untrained(tmp_path / "b", labels=LABELS, plan=plan, preset="moe-sam-tiny", seed=2)
    write_nifti(tmp_path / "scan.nii.gz", np.zeros((12, 10, 2), np.float32), np.diag([-1.0, -1, 1, 1]))
    from medmoe_cli.core.imaging.read import read_image

    image = read_image(tmp_path / "scan.nii.gz")
    members = together((first, second)).members("scan", image)
    assert [member.channels for member in members] == [None, (0, 2, 1)]
    one = untrained(tmp_path / "c", labels=LABELS, seed=3)
    other = untrained(tmp_path / "d", labels=LABELS, plan=plan, seed=4)
    asked = [member.requests for member in together((one, other), text=("liver",)).members("scan", image)]
    assert {request.value for requests in asked for request in requests} == {1}
    assert [requests[0].prompt.class_index for requests in asked] == [0, 1]


def test_mirroring_and_rules_are_the_models_own_until_switched_off(tmp_path: Path) -> None:
    plan = oracle_plan(labels=LABELS).model_copy(update={"mirror_axes": ("horizontal",)})
    model = untrained(tmp_path / "a", labels=LABELS, plan=plan, preset="moe-sam-tiny", rules=RULES)
    usual, bare = together((model,)), together((model,), mirroring=False, postprocessing=False)
    assert usual.inferences[0].mirroring.axes == ("horizontal",)
    assert usual.rules == RULES
    assert bare.inferences[0].mirroring.axes == ()
    assert bare.rules == Postprocessing()
    assert usual.identity() != bare.identity()
    plain = untrained(tmp_path / "b", labels=LABELS, plan=plan, preset="moe-sam-tiny", seed=1)
    assert together((model, plain)).rules == Postprocessing()
    unasked = untrained(
        tmp_path / "c", labels=LABELS, plan=plan, preset="moe-sam-tiny", settings=["predict.mirror=off"]
    )
    assert together((unasked,)).inferences[0].mirroring.axes == ()


def test_rules_travel_with_a_shared_model(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, origin="test")
    folder = untrained_model(tmp_path / "shared", labels=LABELS, rules=RULES)
    loaded = load_model(folder, workspace=workspace)
    assert loaded.postprocessing == RULES
    again = save_model(loaded, tmp_path / "again")
    assert load_model(again, workspace=workspace).postprocessing == RULES
