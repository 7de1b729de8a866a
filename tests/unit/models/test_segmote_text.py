"""Text prompts: learned names and CLIP's features, both inside the saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.models.segmote.text import ClipText, LearnedText, clip_features
from tests.tools.segmote import SMALL, mixed_prompts, small_images, small_plan, small_segmote

WIDTH = 16


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP text model of a few thousand weights with a tokenizer that spells."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    words = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    CLIPTextModel(config).save_pretrained(folder)
    return folder


def _config(folder: Path, **keys: object) -> SegmoteConfig:
    return SegmoteConfig.model_validate(
        {**SMALL, "text": "clip", "clip_path": str(folder), "clip_width": WIDTH, **keys}
    )


def test_clip_features_depend_on_the_text_alone(clip_folder: Path) -> None:
    together = clip_features(clip_folder, ["the first organ", "organ 2", "liver"])
    assert together.shape == (3, WIDTH)
    assert (together[0] - together[1]).abs().max() > 1e-3
    # Padding to the longest text of the list changes no text's features.
    torch.testing.assert_close(clip_features(clip_folder, ["liver"])[0], together[2], atol=1e-5, rtol=0)


def test_a_clip_model_uses_class_prompts_and_is_whole_without_the_folder(clip_folder: Path) -> None:
    torch.manual_seed(0)
    model = Segmote.build(_config(clip_folder), small_plan()).eval()
    assert isinstance(model.text, ClipText)
    texts = ["the first organ", "organ 2", "organ 3"]
    torch.testing.assert_close(model.text.features, clip_features(clip_folder, texts))
    restored = Segmote.build(_config(clip_folder / "gone"), small_plan(), restore=True).eval()
    restored.load_state_dict(model.state_dict())
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        features = model.encode(small_images()).take(image_Q)
        assert torch.equal(model.decode(features, prompts).logits, restored.decode(features, prompts).logits)


def test_a_missing_or_wrong_clip_folder_is_one_line(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="CLIP folder not found"):
        Segmote.build(_config(tmp_path / "nothing"), small_plan())
    with pytest.raises(CheckpointError, match="not a CLIP model"):
        Segmote.build(_config(tmp_path), small_plan())
    with pytest.raises(ConfigError, match=f"set model.clip_width to {WIDTH}"):
        Segmote.build(_config(clip_folder, clip_width=512), small_plan())


def test_a_clip_folder_with_missing_tensors_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="tensors of the CLIP text encoder are missing"):
        clip_features(tmp_path, ["liver"])


def test_learned_names_answer_differently() -> None:
    model = small_segmote().eval()
    assert isinstance(model.text, LearnedText)
    assert model.text.table.weight.shape[0] == 3
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        features = model.encode(small_images()).take(image_Q)
        first = model.decode(features, prompts).logits
        prompts.class_index[2] = 0
        second = model.decode(features, prompts).logits
    changed = (first - second).abs().amax(dim=(1, 2, 3))
    assert changed[2] > 1e-3
    assert changed[[0, 1, 3]].max() == 0
