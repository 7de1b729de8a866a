"""Which experts may be merged: each difference has its own message, and a fair expert passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medmoe_cli.core.base.errors import CheckpointError, ProblemList
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.workflows.merging.assembly import merged_plan
from medmoe_cli.core.workflows.merging.checks import check_parts, differences
from medmoe_cli.core.workflows.merging.parts import Part
from tests.tools.merging import expert_model, general_model, merging_plan

PLAN = merging_plan("hearts", ("heart",))
OWN = merging_plan("lungs", ("lung",))


def part(model: SamMed3dMoe, plan: Plan, *, name: str) -> Part:
    return Part(
        name=name,
        model=f"{name}-model",
        config=model.config,
        plan=plan,
        predict=PredictConfig(),
        tensors=dict(model.state_dict()),
        sha256="0" * 64,
        fold="",
    )


@pytest.fixture(scope="module")
def general() -> Part:
    return part(general_model(PLAN), PLAN, name="general")


def an_expert(plan: Plan = OWN, **keys: Any) -> Part:
    return part(expert_model(general_model(PLAN), plan, seed=1, **keys), plan, name="lungs")


def test_an_expert_whose_decoder_alone_differs_passes(general: Part) -> None:
    expert = an_expert()
    assert not torch.equal(
        general.tensors["mask_decoder.mask_tokens.weight"], expert.tensors["mask_decoder.mask_tokens.weight"]
    )
    check_parts(general, [expert])


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        ("image_encoder.blocks.1.mlp.lin1.weight", "image encoder"),
        ("prompt_encoder.not_a_point_embed.weight", "prompt encoder"),
    ],
)
def test_one_changed_number_of_a_shared_tensor_is_named(general: Part, tensor: str, what: str) -> None:
    expert = an_expert()
    changed = expert.tensors[tensor].clone()
    changed.view(-1)[3] = torch.nextafter(changed.view(-1)[3], torch.tensor(9.0))
    tensors = {**expert.tensors, tensor: changed}
    other = Part(**{**{key: getattr(expert, key) for key in Part.__slots__}, "tensors": tensors})
    assert differences(general, other) == [f"{what}: tensor {tensor} differs"]
    with pytest.raises(CheckpointError, match=tensor.replace(".", r"\.")) as caught:
        check_parts(general, [other])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"spacing_mm": (1.0, 1.0, 1.0)}, "plan.spacing_mm: 1 x 1 x 1, not 2 x 2 x 2"),
        ({"input_size": 64}, "plan.input_size: 64, not 32"),
        (
            {"channels": (ChannelPlan(name="CT", normalization="percentile"),)},
            "plan.channels[0].normalization: percentile, not zscore",
        ),
    ],
)
def test_scans_seen_in_another_way_are_refused_with_the_key(general: Part, update: dict[str, Any], named: str) -> None:
    expert = an_expert()
    other = Part(**{**{key: getattr(expert, key) for key in Part.__slots__}, "plan": OWN.model_copy(update=update)})
    assert differences(general, other) == [named]


def test_clipping_of_the_expert_alone_is_no_reason_but_that_of_the_general_model_is(general: Part) -> None:
    clipped = (ChannelPlan(name="CT", normalization="zscore", low=-1000.0, high=1000.0),)
    expert = an_expert(OWN.model_copy(update={"channels": clipped}))
    assert differences(general, expert) == []
    hard = Part(
        **{
            **{key: getattr(general, key) for key in Part.__slots__},
            "plan": PLAN.model_copy(update={"channels": clipped}),
        }
    )
    assert differences(hard, an_expert()) == ["plan.channels[0].normalization: zscore, not zscore -1000 to 1000"]


def test_another_backbone_is_named_by_its_keys(general: Part) -> None:
    other = part(expert_model(general_model(PLAN, depth=1), OWN, seed=1), OWN, name="lungs")
    assert differences(general, other) == ["model.depth: 1, not 2"]


def test_every_difference_of_every_expert_is_said_at_once(general: Part) -> None:
    first = an_expert(OWN.model_copy(update={"spacing_mm": (1.0, 1.0, 1.0), "input_size": 32}))
    second = part(general_model(PLAN), PLAN, name="second")
    with pytest.raises(ProblemList) as caught:
        check_parts(general, [first, second])
    assert caught.value.exit_code == 4
    assert ["'lungs'" in one.line() for one in caught.value.problems] == [True, False]
    assert "model.role: general, not expert" in caught.value.problems[1].line()


def test_an_expert_is_no_general_model() -> None:
    expert = an_expert()
    with pytest.raises(CheckpointError, match="is an expert"):
        check_parts(expert, [])


def test_the_merged_plan_keeps_the_general_models_values_and_adds_the_experts_classes() -> None:
    plan = merging_plan("hearts", ("heart", "vessel"))
    first = an_expert(merging_plan("lungs", ("lung", "vessel")))
    second = an_expert(merging_plan("bones", ("rib",)))
    merged = merged_plan(plan, [first, second], num_experts=2)
    assert merged.labels == {"heart": 1, "vessel": 2, "lung": 3, "rib": 4}
    assert (merged.input_size, merged.spacing_mm, merged.channels) == (plan.input_size, plan.spacing_mm, plan.channels)
    assert merged.mirror_axes == ()
    assert not merged.binary
