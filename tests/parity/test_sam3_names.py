"""The original release's names become transformers', all of them, and weights that go there come back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from medmoe_cli.core.config.sam3 import PUBLISHED
from medmoe_cli.core.nn.sam3.hf import build_sam3, sizes_of
from medmoe_cli.core.nn.sam3.names import to_transformers
from tests.tools.da_sam3 import small_sam3

ORIGINAL = Path(__file__).parent / "keys" / "sam3_original.json"
NUM_TENSORS, NUM_PARAMETERS = 1468, 840_376_374


def original_names() -> list[str]:
    """Names in the public sam3.pt, without their prefix."""
    compressed = json.loads(ORIGINAL.read_text(encoding="utf-8"))
    return [name.replace("{i}", str(index)) for count, name in compressed for index in range(count)]


def test_every_name_of_the_public_file_is_mapped() -> None:
    names = original_names()
    assert len(names) == 1134
    renamed = to_transformers({f"detector.{name}": torch.zeros(3, 3) for name in names})
    with torch.device("meta"):
        wanted = build_sam3(PUBLISHED, image_size=1008)
    assert set(renamed.tensors) == set(wanted.state_dict())
    assert len(renamed.tensors) == NUM_TENSORS
    assert sum(parameter.numel() for parameter in wanted.parameters()) == NUM_PARAMETERS
    assert len(renamed.left_out) == 38
    assert sum(name.endswith("freqs_cis") for name in renamed.left_out) == 32


def test_the_published_configuration_is_read_back() -> None:
    with torch.device("meta"):
        assert sizes_of(build_sam3(PUBLISHED, image_size=1008).config.to_dict()) == PUBLISHED
    assert sizes_of({"model_type": "sam3_video", "detector_config": {"text_config": {"hidden_size": 512}}}) == (
        PUBLISHED.model_copy(update={"text_width": 512})
    )


def test_weights_arrive_where_the_original_has_them() -> None:
    model = small_sam3()
    tensors, width = model.state_dict(), 32
    fused = {
        "transformer.encoder.layers.1.self_attn.in_proj_weight": [
            tensors[f"detr_encoder.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"
        ],
        "backbone.vision_backbone.trunk.blocks.0.attn.qkv.bias": [
            tensors[f"vision_encoder.backbone.layers.0.attention.{part}_proj.bias"] for part in "qkv"
        ],
    }
    original: dict[str, Tensor] = {name: torch.cat(parts) for name, parts in fused.items()}
    table = tensors["vision_encoder.backbone.embeddings.position_embeddings"]
    original["backbone.vision_backbone.trunk.pos_embed"] = torch.cat([torch.ones(1, 1, width), table], dim=1)
    projection = tensors["text_encoder.text_projection.weight"]
    original["backbone.language_backbone.encoder.text_projection"] = projection.T
    original["transformer.decoder.norm.weight"] = torch.full((width,), 2.0)
    original["transformer.decoder.layers.0.norm1.weight"] = torch.full((width,), 3.0)
    renamed = to_transformers({f"detector.{name}": tensor for name, tensor in original.items()}).tensors
    for name, parts in fused.items():
        place = "detr_encoder.layers.1.self_attn" if "encoder" in name else "vision_encoder.backbone.layers.0.attention"
        kind = name.rpartition("_" if "in_proj" in name else ".")[2]
        for part, tensor in zip("qkv", parts, strict=True):
            assert torch.equal(renamed[f"{place}.{part}_proj.{kind}"], tensor)
    assert torch.equal(renamed["vision_encoder.backbone.embeddings.position_embeddings"], table)
    assert torch.equal(renamed["text_encoder.text_projection.weight"], projection)
    assert float(renamed["detr_decoder.output_layer_norm.weight"][0]) == 2
    assert float(renamed["detr_decoder.layers.0.vision_cross_attn_layer_norm.weight"][0]) == 3


def test_names_of_transformers_stay_and_the_tracker_is_left_out() -> None:
    renamed = to_transformers({"detector_model.text_projection.bias": torch.ones(2), "tracker_model.a": torch.ones(1)})
    assert list(renamed.tensors) == ["text_projection.bias"]
    assert renamed.left_out == ("tracker_model.a",)
