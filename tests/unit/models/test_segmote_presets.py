"""Every packaged preset of SegMoTE loads, builds and answers."""

from __future__ import annotations

import re

import pytest
import torch

from medmoe_cli.core.config.presets import load_preset, preset_names, presets_folder, resolve
from medmoe_cli.core.models import registry
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.model import Segmote
from tests.tools.segmote import mixed_prompts, small_images, small_plan

PRESETS = [name for name in preset_names() if name.startswith("segmote")]


def _config(name: str, *assignments: str) -> SegmoteConfig:
    preset = load_preset(name)
    model = resolve(preset, registry.method(preset.method).config_class(), assignments=assignments).model
    assert isinstance(model, SegmoteConfig)
    return model


def test_the_three_presets_are_there() -> None:
    assert set(PRESETS) == {"segmote-medseg-hq", "segmote-imisnet-b", "segmote-tiny"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_says_where_it_comes_from(name: str) -> None:
    lines = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"^  [a-z_0-9]+: ", line)]
    assert len(values) > 3
    for line in values:
        assert "# " in line, line


@pytest.mark.parametrize("name", PRESETS)
def test_builds_at_its_own_size(name: str) -> None:
    preset = load_preset(name)
    size = int(preset.values["plan"]["input_size"])
    for labels in (1, 5):
        with torch.device("meta"):
            model = Segmote.build(_config(name), small_plan(size=size, labels=labels))
        assert (model.ppt is not None) == (labels == 1)
        assert sum(model.stages()[0].prompt_mix.values()) == pytest.approx(1)
        groups = {group.name: group for group in model.parameter_groups()}
        assert (groups["encoder"].trainable > 0) == (name == "segmote-tiny")


@pytest.mark.parametrize("name", PRESETS)
def test_answers(name: str) -> None:
    """At 64 pixels and, for the large ones, with random weights: the computation is the same at any size."""
    config = _config(name, *([] if name == "segmote-tiny" else ["model.weights=random"]))
    assert registry.method("segmote").backbone_name(config) is None
    torch.manual_seed(0)
    model = registry.method("segmote").build(config, small_plan()).eval()
    prompts, image_Q = mixed_prompts(mask_size=model.mask_size)
    with torch.no_grad():
        output = model.decode(model.encode(small_images()).take(image_Q), prompts)
    assert output.logits.shape == (9, 1, 64, 64)
    assert torch.isfinite(output.logits).all()
