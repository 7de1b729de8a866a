"""The registry names the methods without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.models import registry


def test_registry_and_configs_leave_torch_alone() -> None:
    script = (
        "import sys; from medmoe_cli.core.models import registry\n"
        "for name in registry.method_names():\n"
        "    method = registry.method(name); method.backbone_name(method.config_class()()); registry.card(name)\n"
        "assert not {'torch', 'transformers', 'segment_anything'} & set(sys.modules), 'heavy imports'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_cards_carry_their_names() -> None:
    assert registry.method_names()
    for name in registry.method_names():
        card = registry.card(name)
        assert card.name == name
        assert card.dims in (2, 3)
        assert card.prompts
        assert issubclass(registry.method(name).config_class(), Section)


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'segmote'"):
        registry.method("segmot")
    with pytest.raises(ConfigError, match="unknown method 'unet'"):
        registry.card("unet")


def test_every_key_of_a_method_is_described() -> None:
    for name in registry.method_names():
        for key, field in registry.method(name).config_class().model_fields.items():
            assert field.description, f"{name}: {key}"
