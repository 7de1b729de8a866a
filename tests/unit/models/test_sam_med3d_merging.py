"""Parts of a merged model by name, its config, and a gate that grows."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medmoe_cli.core.models.sam_med3d_moe.config import ExpertEntry, SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.merging import (
    differing_keys,
    expert_config,
    expert_names,
    experts_from,
    grow_gate,
    merged_config,
    shared_from,
)
from tests.tools.sam_med3d import (
    CONV,
    EXPERTS,
    SMALL,
    answered,
    mixed_volume_prompts,
    small_expert,
    small_merged,
    small_model,
    volumes,
)


def test_taken_apart_and_put_together() -> None:
    tensors = small_merged(**CONV).state_dict()
    together = shared_from(tensors)
    experts = experts_from(tensors)
    assert len(experts) == 2
    for index, expert in enumerate(experts):
        together |= expert_names(expert, index)
    assert together.keys() == tensors.keys()
    assert all(torch.equal(together[name], tensors[name]) for name in tensors)


def test_an_experts_own_part() -> None:
    general = small_model()
    expert = small_expert(general)
    (own,) = experts_from(expert.state_dict())
    assert set(own) == {name for name in expert.state_dict() if name.startswith(("mask_decoder.", "query_tokens"))}
    assert experts_from(general.state_dict()) == ()


def test_merged_from_trained_parts_answers_as_they_do() -> None:
    general = small_model(seed=2)
    experts = [small_expert(general, seed=seed) for seed in (5, 6)]
    with torch.no_grad():
        for expert in experts:
            expert.mask_decoder.mask_tokens.weight.add_(0.5)
    config = merged_config(general.config, [ExpertEntry(name=name, classes=("organ 1",)) for name in "ab"], tau=1.0)
    assert config.role == "merged"
    merged = small_model(**config.model_dump())
    gate = {name: tensor for name, tensor in merged.state_dict().items() if name.startswith("gate.")}
    tensors = {**general.state_dict(), **gate}
    for index, expert in enumerate(experts):
        (own,) = experts_from(expert.state_dict())
        own["query_tokens"] = own["query_tokens"][:1]
        tensors |= expert_names(own, index)
    merged.load_state_dict(tensors)
    prompts, image_Q = mixed_volume_prompts(names=False)
    found, wanted = (answered(model, volumes(), prompts, image_Q).logits for model in (merged, general))
    assert torch.equal(found, wanted)


def test_a_grown_gate_keeps_its_answers() -> None:
    two = small_merged()
    gate = {name: tensor for name, tensor in two.state_dict().items() if name.startswith("gate.")}
    three = small_merged(experts=[*EXPERTS, {"name": "third", "classes": ["organ 4"]}])
    grown = grow_gate(gate)
    three.load_state_dict({**three.state_dict(), **shared_from(two.state_dict()), **grown})
    prompts, image_Q = mixed_volume_prompts(names=False)
    old, new = (answered(model, volumes(), prompts, image_Q).routing["gate"].logits for model in (two, three))
    assert new.shape[1] == 4
    torch.testing.assert_close(new[:, :3], old)
    assert (new[:, 3] <= old.max(1).values).all(), "nobody calls the new expert before it is trained"
    bare = grow_gate({name.removeprefix("gate."): tensor for name, tensor in gate.items()}, experts=2)
    assert bare["head.2.weight"].shape[0] == 5


def test_configs_of_the_three_roles() -> None:
    general = SamMed3dMoeConfig.model_validate({**SMALL, **CONV, "tau": 0.4})
    expert = expert_config(general, source="runs/general")
    assert (expert.role, expert.general, expert.backbone_weights) == ("expert", "runs/general", "runs/general")
    assert differing_keys(general, expert) == ()
    merged = merged_config(general, [ExpertEntry(name="a", classes=("x",))], fusion="average")
    assert (merged.tau, merged.fusion, merged.backbone_weights) == (0.4, "average", None)
    other = SamMed3dMoeConfig.model_validate({**SMALL, "width": 96})
    assert differing_keys(general, other) == (
        "model.width: 96, not 48",
        "model.stem: patch, not conv",
        "model.draw_prompts: False, not True",
    )


def test_keys_of_the_small_model_do_not_matter_for_the_large_one() -> None:
    first, second = (SamMed3dMoeConfig.model_validate({"width": width}) for width in (96, 192))
    assert differing_keys(first, second) == ()
    turned = SamMed3dMoeConfig.model_validate({"axes": "plan"})
    assert differing_keys(first, turned) == ("model.axes: plan, not auto",)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"role": "expert"}, "needs general"),
        ({"role": "merged"}, "go together"),
        ({"experts": [{"name": "a", "classes": ["x"]}]}, "go together"),
        ({"role": "merged", "experts": [{"name": "a", "classes": ["x"]}] * 2}, "different names"),
        ({"stem": "conv"}, "for backbone: tiny"),
        ({"backbone": "tiny", "draw_prompts": True}, "needs stem: conv"),
        ({"backbone": "tiny", "width": 100}, "not a multiple of heads"),
        ({"backbone": "tiny", "decoder_width": 100}, "not a multiple of 48"),
        ({"gate_heads": 7}, "do not divide"),
        ({"prompt_mix": {"point": 0, "box": 0}}, "not all zero"),
        ({"tau": 1.5}, "less than or equal to 1"),
        ({"taw": 0.5}, "Extra inputs"),
    ],
)
def test_bad_keys_are_refused(keys: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SamMed3dMoeConfig.model_validate(keys)
