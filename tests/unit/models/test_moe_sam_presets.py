"""Every packaged preset of MoE-SAM loads, says where its values come from, builds and answers."""

from __future__ import annotations

import re

import pytest
import torch

from medmoe_cli.core.config.presets import Resolved, load_preset, preset_names, presets_folder, resolve
from medmoe_cli.core.models import registry
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.models.moe_sam.model import MoeSam
from tests.tools.moe_sam import nothing, small_images, small_plan

PRESETS = [name for name in preset_names() if name.startswith("moe-sam")]
PAPERS = ["moe-sam-acdc", "moe-sam-btcv", "moe-sam-mmwhs", "moe-sam-synapse"]


def resolved(name: str, *assignments: str) -> Resolved:
    return resolve(load_preset(name), registry.method("moe-sam").config_class(), assignments=assignments)


def test_the_presets_are_the_cards() -> None:
    assert set(PRESETS) == {*PAPERS, "moe-sam-tiny"} == set(registry.card("moe-sam").presets)
    assert registry.card("moe-sam").presets[-1] == "moe-sam-tiny"


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_says_where_it_comes_from(name: str) -> None:
    lines = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"^  [a-z_0-9]+: ", line)]
    assert values
    for line in values:
        assert "# " in line, line


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_values(name: str) -> None:
    found = resolved(name)
    assert found.plan.input_size == (224 if name == "moe-sam-synapse" else 256)
    assert (found.plan.num_experts, found.plan.batch_size) == (4, 8)
    train = found.train
    assert (train.optimizer, train.learning_rate, train.betas) == ("adamw", 5e-4, (0.9, 0.999))
    assert (train.weight_decay, train.schedule, train.warmup_steps, train.epochs) == (0.1, "poly", 250, 400)
    assert found.augment.enabled
    assert found.predict.mirror
    model = found.model
    assert isinstance(model, MoeSamConfig)
    assert (model.backbone_weights, model.dice_weight) == ("sam-vit-b", 0.8)


def test_parameters_of_the_papers_model() -> None:
    """The public code at 256 pixels and 7 classes, counted: adapters 7.10 M, experts 18.90 M, attention 2.36 M."""
    with torch.device("meta"):
        model = MoeSam.build(resolved("moe-sam-mmwhs").model, small_plan(size=256, labels=7))  # type: ignore[arg-type]
    groups = {group.name: group for group in model.parameter_groups()}
    assert groups["adapters"].trainable == 7_100_928
    assert groups["MoE-FEB"].trainable == pytest.approx(18.90e6 + 2.36e6 + 0.79e6, rel=1e-3)
    assert groups["encoder"].total == 86_672_640
    assert groups["encoder"].trainable == 0
    assert groups["LPEG"].trainable == 256 * 64 + 64 + 64 * 256 + 256


@pytest.mark.parametrize("name", PRESETS)
def test_answers(name: str) -> None:
    """At 64 pixels and, for the large ones, one expert's width and random weights."""
    small = [] if name == "moe-sam-tiny" else ["model.weights=random", "model.expert_width=8"]
    config = resolved(name, *small).model
    if name in PAPERS[1:]:
        assert config == resolved(PAPERS[0], *small).model  # extends: the same model, answered for once
        return
    torch.manual_seed(0)
    model = registry.method("moe-sam").build(config, small_plan()).eval()
    with torch.no_grad():
        output = model.decode(model.encode(small_images()), nothing(2))
    assert output.logits.shape == (2, 4, 64, 64)
    assert torch.isfinite(output.logits).all()
    assert (model.stages()[0].trainable.count("image_encoder.") > 0) == (name == "moe-sam-tiny")
