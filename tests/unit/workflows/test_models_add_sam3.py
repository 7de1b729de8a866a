"""`models add sam3`: a folder of transformers, or the original file beside its tokenizer; and training from it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import TENSORS_FILE
from medmoe_cli.core.models.da_sam3.model import DaSam3
from medmoe_cli.core.nn.backbones import load_backbone
from medmoe_cli.core.nn.sam3.source import SIZES, TOKENIZER, find_source, read_merges
from medmoe_cli.core.nn.sam3.tokens import Tokenizer, learn_merges
from medmoe_cli.core.nn.sam3.words import small_vocabulary
from medmoe_cli.core.workflows.models import ModelAdded, add_model
from tests.tools.da_sam3 import SIZE, small_config, small_plan, small_sam3, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "sam3", small_sam3())


def add(workspace: Path, path: Path) -> ModelAdded:
    return add_model(
        workspace=Workspace(root=workspace, origin="test"),
        architecture="sam3",
        path=path,
        name="small",
        reporter=Silent(),
    )


def test_a_folder_is_kept_with_tokenizer_and_sizes(folder: Path, tmp_path: Path) -> None:
    added = add(tmp_path / "home", folder)
    assert not added.cached
    assert added.record.keys.loaded == len(small_sam3().state_dict())
    assert added.record.keys.left_out == ("tracker_model.unused",)
    assert added.record.parameters == sum(one.numel() for one in small_sam3().parameters())
    tensors = load_backbone(added.folder)
    assert {TOKENIZER, SIZES} <= set(tensors)
    assert add(tmp_path / "home", folder).cached
    model = DaSam3.build(small_config(stem="patch", weights="small"), small_plan(), backbone=tensors)
    torch.testing.assert_close(model.sam3.text_projection.weight, small_sam3().text_projection.weight)


def test_another_tokenizer_beside_the_same_weights_is_another_model(folder: Path, tmp_path: Path) -> None:
    add(tmp_path / "home", folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("{", "{ ", 1))
    with pytest.raises(ConfigError, match="exists"):
        add(tmp_path / "home", folder)


def test_the_original_file_needs_its_tokenizer_beside_it(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "sam3.pt"
    alone.parent.mkdir()
    torch.save({"model": {"detector.a": torch.ones(1)}}, alone)
    with pytest.raises(CheckpointError, match="without its tokenizer") as caught:
        add(tmp_path / "home", alone)
    assert "bpe_simple_vocab_16e6.txt.gz" in caught.value.fix


def test_all_forms_of_the_tokenizer_say_the_same(folder: Path, tmp_path: Path) -> None:
    sizes = small_config(stem="patch").sizes_at(SIZE)
    expected = read_merges(find_source(folder), sizes)
    lines = [" ".join(pair) for pair in learn_merges(small_vocabulary(), size=sizes.num_merges)]
    (folder / "tokenizer.json").unlink()
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]), encoding="utf-8")
    assert torch.equal(read_merges(find_source(folder), sizes), expected)
    (folder / "merges.txt").unlink()
    with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version: 0.2", *lines, *["x y"] * (sizes.num_merges - len(lines))]))
    table = read_merges(find_source(folder), sizes)
    assert torch.equal(table[: len(lines)], expected[: len(lines)])
    assert (
        Tokenizer(table, length=24).words("left kidney")[1:3]
        == Tokenizer(expected, length=24).words("left kidney")[1:3]
    )


@pytest.mark.parametrize("damage", ["no weights", "half", "no tokenizer", "not json", "other model", "other numbers"])
def test_what_is_missing_or_damaged_is_said(folder: Path, tmp_path: Path, damage: str) -> None:
    weights, tokenizer, config = folder / "model.safetensors", folder / "tokenizer.json", folder / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "half":
        kept = {name: tensor for name, tensor in load_file(weights).items() if "detr_decoder" not in name}
        save_file(kept, weights)
    elif damage == "no tokenizer":
        tokenizer.unlink()
    elif damage == "not json":
        tokenizer.write_text("{", encoding="utf-8")
    elif damage == "other model":
        config.write_text(json.dumps({"model_type": "clip"}), encoding="utf-8")
    else:
        content = json.loads(tokenizer.read_text())
        content["model"]["vocab"]["!"] = 7
        tokenizer.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        add(tmp_path / "home", folder)
    assert caught.value.fix
    assert not (tmp_path / "home" / "models" / "small" / TENSORS_FILE).exists()


def test_other_sizes_than_the_configs_are_named_all_at_once(folder: Path, tmp_path: Path) -> None:
    tensors = load_backbone(add(tmp_path / "home", folder).folder)
    config = small_config(stem="patch", weights="small", width=64, queries=5)
    with pytest.raises(ConfigError) as caught:
        DaSam3.build(config, small_plan(), backbone=tensors)
    assert "--set model.width=32" in caught.value.fix
    assert "--set model.queries=3" in caught.value.fix
