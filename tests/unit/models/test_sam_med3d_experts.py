"""Which decoders run, for which queries, and what names and missing prompts mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.segmenter import Prompts
from tests.tools.sam_med3d import (
    CONV,
    EXPERTS,
    SMALL,
    answered,
    mixed_volume_prompts,
    point_prompts,
    rows_of,
    small_expert,
    small_merged,
    small_model,
    volume_plan,
    volumes,
)


def _count(merged: SamMed3dMoe) -> Counter[str]:
    """Queries that each decoder answers, and calls of the encoder, from now on."""
    counts: Counter[str] = Counter()

    def note(name: str, rows: int) -> None:
        counts[name] += rows

    merged.mask_decoder.register_forward_pre_hook(lambda _, inputs: note("general", len(inputs[0])))
    merged.image_encoder.register_forward_pre_hook(lambda _, inputs: note("encoder", 1))
    for index, expert in merged.experts.items():
        expert.mask_decoder.register_forward_pre_hook(
            lambda _, inputs, index=index: note(f"expert {index}", len(inputs[0]))
        )
    return counts


def _set_gate(merged: SamMed3dMoe, bias: list[float]) -> None:
    with torch.no_grad():
        merged.gate.head[2].weight.zero_()
        merged.gate.head[2].bias.copy_(torch.tensor(bias))


def test_a_shut_gate_runs_no_specific_decoder() -> None:
    merged = small_merged()
    _set_gate(merged, [5.0, 0.0, 0.0])
    counts = _count(merged)
    prompts, image_Q = mixed_volume_prompts(names=False)
    answered(merged, volumes(), prompts, image_Q)
    assert counts == {"general": 6, "encoder": 1}


def test_exactly_tau_stays_shut() -> None:
    merged = small_merged(experts=[{"name": "one", "classes": ["organ 2"]}], tau=0.5)
    _set_gate(merged, [0.0, 0.0])
    counts = _count(merged)
    answered(merged, volumes(), point_prompts(torch.full((2, 1, 3), 9.0)), torch.tensor([0, 1]))
    assert counts == {"general": 2, "encoder": 1}


def test_an_expert_runs_for_the_queries_that_opened_it_and_no_others() -> None:
    merged = small_merged()
    with torch.no_grad():
        merged.gate.head[2].weight.mul_(8)
    counts = _count(merged)
    prompts, image_Q = mixed_volume_prompts(names=True)
    routing = answered(merged, volumes(), prompts, image_Q).routing["gate"]
    opened = routing.indices[:, 1][routing.gates[:, 1] > 0].tolist()
    assert len(opened) >= 2
    assert counts["general"] == 6, "queries that name an expert's class are not the general decoder's"
    assert {name: count for name, count in counts.items() if name.startswith("expert")} == {
        f"expert {index - 1}": opened.count(index) for index in set(opened)
    }
    assert counts["encoder"] == 1


def test_a_named_class_is_answered_by_its_expert_alone() -> None:
    """'organ 2' is the first expert's, 'organ 3' and 'organ 1' the second's, in the experts' own order."""
    merged = small_merged()
    _set_gate(merged, [9.0, 0.0, 0.0])
    tensors = merged.state_dict()
    general = small_model()
    general.load_state_dict({name: tensors[name] for name in general.state_dict()})
    owners = {
        "organ 2": (0, ["organ 2"]),
        "organ 3": (1, ["organ 3", "organ 1"]),
        "organ 1": (1, ["organ 3", "organ 1"]),
    }
    for name, (index, classes) in owners.items():
        expert = small_expert(general, plan=volume_plan(labels=classes))
        own = {key: tensors[f"experts.{index}.{key}"] for key in expert.state_dict() if _is_own(key)}
        expert.load_state_dict({**expert.state_dict(), **own})
        for prompts in (_nothing(1), point_prompts(torch.full((1, 2, 3), 7.0))):
            position = volume_plan().class_names.index(name)
            in_merged = replace(prompts, class_index=torch.tensor([position]))
            in_expert = replace(prompts, class_index=torch.tensor([classes.index(name)]))
            found = answered(merged, volumes(), in_merged, torch.tensor([0]))
            wanted = answered(expert, volumes(), in_expert, torch.tensor([0]))
            assert torch.equal(found.logits, wanted.logits), name
            assert found.routing["gate"].indices.tolist() == [[0, index + 1]]
            assert found.routing["gate"].gates.tolist() == [[0, 1]]


def _is_own(key: str) -> bool:
    return key.startswith(("mask_decoder.", "query_tokens"))


def test_naming_a_class_of_the_general_model_leaves_its_points_to_the_gate() -> None:
    merged = small_merged()
    prompts = point_prompts(torch.full((1, 1, 3), 9.0))
    named = replace(prompts, class_index=torch.tensor([3]))  # organ 4
    first, second = (answered(merged, volumes(), one, torch.tensor([0])) for one in (prompts, named))
    assert torch.equal(first.logits, second.logits)


def test_prompt_free_queries_use_the_token_and_others_do_not() -> None:
    general = small_model()
    expert = small_expert(general)
    prompts, image_Q = mixed_volume_prompts(names=True)
    before = answered(expert, volumes(), prompts, image_Q).logits
    with torch.no_grad():
        expert.query_tokens[1] += 1
    after = answered(expert, volumes(), prompts, image_Q).logits
    moved = [float(difference) > 1e-4 for difference in (before - after).abs().flatten(1).amax(1)]
    assert moved == [False] * 6 + [True, False], "query 6 names class 1, query 7 class 2"


def test_a_binary_expert_answers_queries_that_bring_nothing() -> None:
    expert = small_expert(small_model(), plan=volume_plan(labels=["organ 1"]))
    assert expert.prompt_kinds == {"point", "box", "mask", "text", "none"}
    assert expert.stages()[0].prompt_mix == pytest.approx({"point": 0.35, "box": 0.35, "none": 0.3})
    nothing = answered(expert, volumes(), _nothing(1), torch.tensor([0])).logits
    named = answered(expert, volumes(), replace(_nothing(1), class_index=torch.tensor([0])), torch.tensor([0])).logits
    assert torch.equal(nothing, named)


def test_kinds_and_promptable_classes_by_role() -> None:
    general = small_model()
    assert general.prompt_kinds == {"point", "box", "mask"}
    assert general.promptable_classes() == ()
    several = small_expert(general)
    assert several.prompt_kinds == {"point", "box", "mask", "text"}
    assert several.stages()[0].prompt_mix == pytest.approx({"point": 0.35, "box": 0.35, "text": 0.3})
    merged = small_merged()
    assert merged.prompt_kinds == {"point", "box", "mask", "text"}
    assert merged.promptable_classes() == ("organ 1", "organ 2", "organ 3")


def test_a_class_without_a_query_token_needs_a_prompt() -> None:
    image_Q = torch.tensor([0])
    with pytest.raises(ConfigError, match="needs a prompt"):
        answered(small_model(), volumes(), _nothing(1), image_Q)
    with pytest.raises(ConfigError, match=r"class 'organ 4' needs a prompt.*organ 1, organ 2, organ 3"):
        answered(small_merged(), volumes(), replace(_nothing(1), class_index=torch.tensor([3])), image_Q)
    with pytest.raises(ConfigError, match="needs a prompt"):
        answered(small_expert(small_model()), volumes(), _nothing(1), image_Q)


def _nothing(queries: int) -> Prompts:
    return point_prompts(torch.zeros(queries, 0, 3))


@pytest.mark.parametrize("keys", [{}, CONV], ids=["patch", "conv"])
def test_an_expert_begins_as_its_general_model_and_shares_its_encoder(keys: dict[str, object]) -> None:
    general = small_model(seed=3, **keys)
    expert = small_expert(general)
    own = expert.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in general.state_dict().items())
    assert set(own) - set(general.state_dict()) == {"query_tokens"}
    trained = {name for name, parameter in expert.named_parameters() if parameter.requires_grad}
    assert "query_tokens" in trained
    assert not any(name.startswith(("image_encoder.", "prompt_encoder.")) for name in trained)
    prompts, image_Q = mixed_volume_prompts(names=False)
    mine, theirs = (answered(model, volumes(), prompts, image_Q).logits for model in (expert, general))
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_an_expert_does_not_start_from_an_expert_or_another_architecture() -> None:
    general = small_model()
    with pytest.raises(CheckpointError, match="not a general model"):
        small_expert(small_expert(general))
    with pytest.raises(CheckpointError):
        small_expert(general, width=96)
    with pytest.raises(CheckpointError):
        small_expert(general, **CONV)


def test_adding_an_expert_leaves_the_others_answers_alone() -> None:
    """To the last bit, where they are named; a model with one expert more has the same tensors for the rest."""
    three = small_merged(experts=[*EXPERTS, {"name": "third", "classes": ["organ 4", "organ 2"]}])
    tensors = three.state_dict()
    two = small_merged(seed=9)
    two.load_state_dict(
        {name: tensors[name] if "gate.head.2" not in name else tensors[name][:3] for name in two.state_dict()}
    )
    prompts, image_Q = mixed_volume_prompts(names=True)
    named = torch.tensor([6, 7])
    answers = [answered(model, volumes(), rows_of(prompts, named), image_Q[named]).logits for model in (two, three)]
    assert torch.equal(*answers)
    assert three.promptable_classes() == ("organ 1", "organ 2", "organ 3", "organ 4")


def test_the_gate_trains_without_the_other_experts_decoders() -> None:
    torch.manual_seed(0)
    config = SamMed3dMoeConfig.model_validate({**SMALL, "role": "merged", "experts": EXPERTS, "tau": 0.0})
    model = SamMed3dMoe.build(config, volume_plan(), loaded=[1])
    assert set(model.experts) == {"1"}
    _set_gate(model, [0.0, 2.0, 0.0])
    prompts, image_Q = mixed_volume_prompts(names=False)
    output = model.train().decode(model.encode(volumes()).take(image_Q), prompts)
    torch.nn.functional.cross_entropy(output.routing["gate"].logits, torch.full((6,), 1)).backward()
    assert model.gate.head[2].weight.grad is not None
    with pytest.raises(ConfigError, match="'first' is not loaded"):
        answered(model, volumes(), prompts, image_Q)


def test_plans_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="lacks: organ 3"):
        small_merged(plan=volume_plan(labels=["organ 1", "organ 2"]))
    plan = volume_plan()
    with pytest.raises(ConfigError, match="2 channels"):
        small_model(plan=plan.model_copy(update={"channels": plan.channels * 2}))
    with pytest.raises(ConfigError, match="not a multiple of the patch"):
        small_model(plan=volume_plan(side=36))


def test_parameter_groups_by_role() -> None:
    def names(model: SamMed3dMoe) -> list[str]:
        return [group.name for group in model.parameter_groups()]

    general = small_model()
    assert names(general) == ["encoder", "prompt encoder", "general decoder"]
    assert names(small_expert(general)) == ["encoder", "prompt encoder", "expert"]
    shared = ["encoder", "prompt encoder", "general decoder"]
    assert names(small_merged()) == [*shared, "expert first", "expert second", "gate"]
