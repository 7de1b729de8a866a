"""SegMoTE's keys: what goes together, and what the training stage makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from tests.tools.segmote import small_plan, small_segmote


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"text": "clip"}, "clip_path"),
        ({"num_experts": 2, "top_k": 3}, "top_k 3"),
        ({"backbone": "tiny", "width": 100, "heads": 3}, "multiple of heads"),
        ({"backbone": "tiny", "decoder_width": 40}, "multiple of 32"),
        ({"backbone": "tiny", "depth": 2, "early_block": 2}, "early_block 2"),
        ({"prompt_mix": {"box": -0.1, "point": 1.0}}, "not be negative"),
        ({"prompt_mix": {}}, "not all zero"),
        ({"losses": {"dice": 0.0}}, "not all zero"),
        ({"losses": {"dicee": 1.0}}, "dice"),
        ({"num_tokenz": 4}, "Extra inputs"),
    ],
)
def test_bad_values_are_refused_with_the_reason(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SegmoteConfig.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({}, "sam-vit-b"),
        ({"weights": "my-sam"}, "my-sam"),
        ({"weights": "random"}, None),
        ({"backbone": "tiny"}, None),
        ({"backbone": "tiny", "weights": "my-tiny"}, "my-tiny"),
    ],
)
def test_which_added_model_supplies_the_weights(keys: dict[str, Any], name: str | None) -> None:
    assert SegmoteConfig.model_validate(keys).backbone_weights == name


def test_loss_presets_and_their_replacement() -> None:
    assert SegmoteConfig(loss="paper").loss_weights == {"dice": 1.0, "score": 1.0}
    assert SegmoteConfig(loss="code").loss_weights == {"focal": 20.0, "dice": 1.0, "score": 1.0}
    assert SegmoteConfig(loss="code", losses={"bce": 2.0}).loss_weights == {"bce": 2.0}


def test_prompt_mix_follows_what_the_model_takes() -> None:
    with_text = small_segmote(prompt_mix={"box": 2, "point": 1, "text": 1}).stages()[0]
    assert with_text.prompt_mix == {"box": 0.5, "point": 0.25, "text": 0.25}
    assert with_text.prior_mix == {}
    without = small_segmote(prompt_mix={"box": 2, "point": 1, "text": 1}, text="none").stages()[0]
    assert without.prompt_mix == {"box": pytest.approx(2 / 3), "point": pytest.approx(1 / 3)}


def test_self_prompted_queries_take_their_share_on_binary_data() -> None:
    stage = small_segmote(plan=small_plan(labels=1), self_prompt_share=0.25).stages()[0]
    assert stage.prompt_mix == pytest.approx({"box": 0.3, "point": 0.225, "text": 0.225, "none": 0.25})
    assert stage.prior_mix == {"mask": 0.4, "text": 0.3, "none": 0.3}
    alone = small_segmote(plan=small_plan(labels=1), self_prompt_share=1.0).stages()[0]
    assert alone.prompt_mix == {"none": 1.0}
    silent = small_segmote(plan=small_plan(labels=1), text="none").stages()[0]
    assert silent.prior_mix == {"mask": pytest.approx(4 / 7), "none": pytest.approx(3 / 7)}


def test_a_mix_of_unavailable_prompts_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no prompt"):
        small_segmote(text="none", prompt_mix={"text": 1.0})


def test_more_active_experts_than_the_plan_has() -> None:
    with pytest.raises(ConfigError, match="top_k 5 is more than the 4 experts"):
        small_segmote(top_k=5)


@pytest.mark.parametrize(
    ("keys", "trained"),
    [
        ({}, {"MoTE", "text", "score head"}),
        ({"ppt": "on", "text": "none"}, {"MoTE", "PPT", "score head"}),
        ({"train_decoder": True}, {"MoTE", "text", "score head", "prompt encoder", "mask decoder"}),
        ({"train_encoder": True}, {"MoTE", "text", "score head", "encoder"}),
    ],
)
def test_what_trains_is_what_the_switches_say(keys: dict[str, Any], trained: set[str]) -> None:
    groups = small_segmote(**keys).parameter_groups()
    assert {group.name for group in groups if group.trainable} == trained
    for group in groups:
        # SAM's own mask heads and IoU head are not part of the answer and never train.
        assert group.trainable == group.total or group.name == "mask decoder" or group.trainable == 0
