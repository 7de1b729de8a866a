"""A merged model before whole volumes: what is encoded, who answers, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.prompts import Click, QueryPrompt
from medmoe_cli.core.workflows.predicting.ensemble import load_models
from medmoe_cli.core.workflows.predicting.requests import FromClassNames
from medmoe_cli.core.workflows.predicting.segmenting import segment
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest, requests_of_labels
from tests.tools.datasets import write_nifti
from tests.tools.merging import merging_plan, put_model
from tests.tools.sam_med3d import small_merged, small_model, volume_plan
from tests.tools.volume_oracle import volume_inference


@pytest.fixture
def scan(tmp_path: Path) -> VolumeScan:
    """Two windows of 32 long, one window across."""
    values = np.random.default_rng(0).normal(0, 1, (48, 32, 32)).astype(np.float32)
    write_nifti(tmp_path / "scan.nii.gz", values, np.diag([-1.5, -1.5, 1.5, 1.0]))
    found = prepare_scan(read_image(tmp_path / "scan.nii.gz"), volume_plan())
    assert isinstance(found, VolumeScan)
    return found


def merged_model(*, gate: list[float]) -> tuple[SamMed3dMoe, Counter[str]]:
    """A merged model of two experts whose gate always answers this, and what runs in it from now on."""
    model = small_merged(plan=volume_plan())
    with torch.no_grad():
        model.gate.head[2].weight.zero_()
        model.gate.head[2].bias.copy_(torch.tensor(gate))
    counts: Counter[str] = Counter()

    def note(name: str, rows: int) -> None:
        counts[name] += rows

    model.mask_decoder.register_forward_pre_hook(lambda _, given: note("general", len(given[0])))
    model.image_encoder.register_forward_pre_hook(lambda _, given: note("windows", len(given[0])))
    for index, expert in model.experts.items():
        expert.mask_decoder.register_forward_pre_hook(
            lambda _, given, index=index: note(f"expert {index}", len(given[0]))
        )
    return model, counts


def boxes(count: int) -> tuple[VolumeRequest, ...]:
    """Structures in the middle of the first window."""
    return tuple(
        VolumeRequest(value=value, prompt=QueryPrompt(box=(4, 4 + value, 5, 14, 14 + value, 20)))
        for value in range(1, count + 1)
    )


def test_a_shut_gate_leaves_every_window_to_the_general_decoder(scan: VolumeScan) -> None:
    model, counts = merged_model(gate=[5.0, 0.0, 0.0])
    segment(scan, boxes(4), volume_inference(model), threshold=0.5)
    assert counts == {"windows": 1, "general": 4}


def test_an_open_gate_adds_the_chosen_expert_and_no_other(scan: VolumeScan) -> None:
    model, counts = merged_model(gate=[0.0, 0.0, 5.0])
    segment(scan, boxes(4), volume_inference(model), threshold=0.5)
    assert counts == {"windows": 1, "general": 4, "expert 1": 4}


def test_clicks_ask_the_decoders_again_and_the_encoder_never(scan: VolumeScan) -> None:
    model, counts = merged_model(gate=[0.0, 5.0, 0.0])
    labels = np.zeros(scan.shape_DHW, np.uint8)
    labels[4:14, 6:16, 5:15] = 2
    asked = requests_of_labels(labels, scan.plan, kind="point", clicks=3)
    segment(scan, asked, volume_inference(model), threshold=0.5)
    assert counts == {"windows": 1, "general": 3, "expert 0": 3}


def test_class_names_ask_their_own_experts_in_every_window_and_nobody_else(scan: VolumeScan) -> None:
    model, counts = merged_model(gate=[0.0, 0.0, 0.0])
    source = FromClassNames(scan.plan, (), promptable=model.promptable_classes())
    result = segment(scan, source.volume_requests("scan", scan), volume_inference(model), threshold=0.5)
    # Two windows; 'organ 2' is the first expert's, 'organ 3' and 'organ 1' are the second's.
    assert counts == {"windows": 2, "expert 0": 2, "expert 1": 4}
    assert (result.num_requests, result.prompted) == (3, frozenset())


def test_names_and_boxes_in_one_scan(scan: VolumeScan) -> None:
    model, counts = merged_model(gate=[5.0, 0.0, 0.0])
    named = VolumeRequest(value=2, prompt=QueryPrompt(class_index=1))
    result = segment(scan, (named, *boxes(1)), volume_inference(model), threshold=0.5)
    assert counts == {"windows": 3, "general": 1, "expert 0": 2}
    assert result.prompted == {1}


def test_a_class_that_only_the_general_model_knows_needs_a_prompt(scan: VolumeScan) -> None:
    model, _ = merged_model(gate=[0.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match="class 'organ 4' needs a prompt"):
        FromClassNames(scan.plan, ("organ 4",), promptable=model.promptable_classes())


def test_windows_of_other_prompts_do_not_change_an_answer(scan: VolumeScan) -> None:
    """A structure asked for beside distant ones is answered as alone, to the last bit."""
    model, _ = merged_model(gate=[0.0, 0.0, 0.0])
    near = VolumeRequest(value=1, prompt=QueryPrompt(clicks=(Click(position=(6.5, 16.5, 16.5), foreground=True),)))
    far = VolumeRequest(value=2, prompt=QueryPrompt(box=(38, 4, 4, 47, 14, 20)))
    stores = [np.zeros((4, *scan.shape_SHW), np.float16) for _ in range(2)]
    for store, asked in zip(stores, ((near,), (near, far)), strict=True):
        segment(scan, asked, volume_inference(model), threshold=0.5, probabilities=store)
    np.testing.assert_array_equal(stores[0][0], stores[1][0])
    assert stores[1][1].any()


@pytest.mark.parametrize(
    ("change", "key"), [({"spacing_mm": (2.0, 2.0, 1.0)}, "plan.spacing_mm"), ({"input_size": 64}, "plan.input_size")]
)
def test_models_of_other_windows_are_not_averaged(tmp_path: Path, change: dict[str, object], key: str) -> None:
    plan = merging_plan("hearts", ("heart",))
    other = plan.model_copy(update=change)
    put_model(tmp_path / "models" / "a", small_model(plan=plan), plan)
    put_model(tmp_path / "models" / "b", small_model(plan=other, seed=1), other)
    with pytest.raises(CheckpointError, match="models cannot be averaged") as caught:
        load_models(("a", "b"), workspace=Workspace(root=tmp_path, origin="test"), reporter=Silent())
    assert f"{key}: " in caught.value.line()
