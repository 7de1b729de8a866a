from __future__ import annotations

import pytest

from medmoe_cli.core.config.presets import load_preset, resolve
from medmoe_cli.core.models.registry import method
from tests.tools.oracle import oracle_plan

SMALL = ("model.depth=2", "model.width=48")


@pytest.mark.parametrize(
    ("labels", "settings", "kinds"),
    [
        ({"lung": 1}, (), {"point", "box", "mask", "text", "none"}),
        ({"liver": 1, "spleen": 2}, (), {"point", "box", "mask", "text"}),
        ({"liver": 1, "spleen": 2}, ("model.ppt=on",), {"point", "box", "mask", "text", "none"}),
        ({"lung": 1}, ("model.ppt=off", "model.text=none"), {"point", "box", "mask"}),
    ],
)
def test_a_model_says_what_it_was_built_to_answer(
    labels: dict[str, int], settings: tuple[str, ...], kinds: set[str]
) -> None:
    found = method("segmote")
    config = resolve(load_preset("segmote-tiny"), found.config_class(), assignments=(*SMALL, *settings)).model
    assert found.build(config, oracle_plan(labels=labels)).prompt_kinds == kinds
