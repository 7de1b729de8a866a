from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from medmoe_cli.core.base.errors import ConfigError, ProblemList
from medmoe_cli.core.config.presets import load_preset, preset_names, presets_folder, resolve, resolved_yaml
from medmoe_cli.core.config.sections import Section


class ModelSection(Section):
    num_experts: int = Field(default=4, ge=1)
    backbone: str = "tiny"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


HEAD = "method: segmote\ndescription: a test\n"


def test_values_come_with_their_origins(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path / "p.yaml", HEAD + "train:\n  learning_rate: 1e-3\n  epochs: 3\n"))
    resolved = resolve(
        preset,
        ModelSection,
        assignments=["train.epochs=5", "model.num_experts=2", "train.weight_decay=1e-5"],
        flags={"train.epochs": ("--epochs", 7), "train.steps": ("--steps", None)},
    )
    assert resolved.train.learning_rate == pytest.approx(1e-3)
    assert resolved.train.weight_decay == pytest.approx(1e-5)
    assert resolved.train.epochs == 7
    assert resolved.origins["train.epochs"] == "--epochs"
    assert resolved.origins["model.num_experts"] == "--set"
    assert resolved.origins["train.learning_rate"] == "preset p"
    assert resolved.origins["train.seed"] == "default"
    text = resolved_yaml(resolved, header={"medmoe": "x"})
    assert yaml.safe_load(text)["train"]["epochs"] == 7
    assert "epochs: 7  # --epochs" in text


def test_on_and_off_are_words_and_numbers_are_numbers(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path / "p.yaml", HEAD + "plan:\n  mirror: on\naugment:\n  enabled: false\n"))
    resolved = resolve(preset, ModelSection, assignments=["train.learning_rate=1e-4", "train.steps=7"])
    assert resolved.plan.mirror == "on"
    assert resolved.augment.enabled is False
    assert resolved.train.learning_rate == pytest.approx(1e-4)
    assert resolve(preset, ModelSection, assignments=["plan.mirror=off"]).plan.mirror == "off"


def test_extends_goes_one_level(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", HEAD + "train:\n  epochs: 3\n  seed: 9\n")
    child = load_preset(write(tmp_path / "b.yaml", HEAD + f"extends: {tmp_path / 'a.yaml'}\ntrain:\n  epochs: 4\n"))
    resolved = resolve(child, ModelSection)
    assert (resolved.train.epochs, resolved.train.seed) == (4, 9)
    assert resolved.origins["train.seed"] == "preset a"
    with pytest.raises(ConfigError, match="one level"):
        load_preset(write(tmp_path / "c.yaml", HEAD + f"extends: {tmp_path / 'b.yaml'}\n"))


def test_every_mistake_is_reported_at_once_with_a_suggestion(tmp_path: Path) -> None:
    preset = load_preset(
        write(tmp_path / "p.yaml", HEAD + "train:\n  learning_rat: 1\n  epochs: -1\nmodel:\n  bckbone: x\n")
    )
    with pytest.raises(ProblemList) as caught:
        resolve(preset, ModelSection, assignments=["trane.epochs=1", "nonsense"])
    lines = "\n".join(problem.line() for problem in caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "did you mean 'learning_rate'?" in lines
    assert "did you mean 'backbone'?" in lines
    assert "did you mean 'train'?" in lines
    assert "train.epochs" in lines


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("method: [", "YAML"),
        ("- 1", "mapping"),
        (HEAD + "trian:\n  epochs: 1\n", "did you mean 'train'"),
        ("method: segmote\n", "description"),
        (HEAD + "train:\n  epochs: 1\n  epochs: 2\n", "given twice"),
        (HEAD + "train: 5\n", "not a mapping"),
    ],
)
def test_bad_files_are_config_errors(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_preset(write(tmp_path / "p.yaml", text))


def test_unknown_presets_get_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'segmote-tiny'"):
        load_preset("segmote-tyni")
    with pytest.raises(ConfigError, match="not found"):
        load_preset("no/such/file.yaml")


def test_every_packaged_preset_loads_and_every_key_has_a_comment() -> None:
    names = preset_names()
    assert len(names) >= 3
    for name in names:
        load_preset(name)
        for line in (presets_folder() / f"{name}.yaml").read_text().splitlines():
            is_value = line.startswith("  ") and ":" in line and not line.strip().startswith("#")
            assert not is_value or "#" in line, f"{name}: no comment on '{line}'"
