"""SAM3 from `transformers`: its modules at the sizes and the image side that are asked for.

SAM3's weights do not depend on the image side: the position table is repeated and rotary angles are computed from it.
Source: transformers' Sam3Model (Apache-2.0), used as a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import Sam3Config, Sam3Model

from medmoe_cli.core.config.sam3 import Sam3Sizes

_TABLE_STD = 0.5
_RARE = -2.0  # logit of a pixel's probability before anything is learned


def build_sam3(sizes: Sam3Sizes, *, image_size: int) -> Sam3Model:
    """A SAM3 at random weights.

    Args:
        sizes: of its parts.
        image_size: side of the images it will see, pixels; a multiple of the patch.
    """
    return Sam3Model(sam3_config(sizes, image_size=image_size))


@torch.no_grad()
def start_small(sam3: Sam3Model) -> None:
    """Random weights for training a small SAM3 from scratch.

    SAM3's own (deviation 0.02 everywhere) suit widths of a thousand. At a width of 64 they make each product a sixth of
    its input, and a text, which passes five of them, is hardly heard; weights scaled by their inputs keep its size.
    """
    for module in sam3.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    for table in (
        sam3.text_encoder.text_model.embeddings.token_embedding,
        sam3.detr_decoder.query_embed,
        sam3.detr_decoder.presence_token,
    ):
        nn.init.normal_(table.weight, std=_TABLE_STD)
    bias = sam3.mask_decoder.semantic_projection.bias
    assert bias is not None
    nn.init.constant_(bias, _RARE)  # most pixels are not what is asked for


def sam3_config(sizes: Sam3Sizes, *, image_size: int) -> Sam3Config:
    """The configuration that `transformers` builds from."""
    grid = image_size // sizes.patch
    keys: dict[str, Any] = {"attn_implementation": "sdpa"}  # transformers takes it, its signature hides it
    decoder = {"hidden_size": sizes.width, "num_attention_heads": sizes.heads}
    layers = {**decoder, "intermediate_size": sizes.mlp, "dropout": sizes.dropout}
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": sizes.vision_width,
                "intermediate_size": sizes.vision_mlp,
                "num_hidden_layers": sizes.vision_depth,
                "num_attention_heads": sizes.vision_heads,
                "image_size": image_size,
                "patch_size": sizes.patch,
                "window_size": sizes.window,
                "global_attn_indexes": list(sizes.global_blocks),
                "pretrain_image_size": sizes.pretrain_size,
            },
            "fpn_hidden_size": sizes.width,
            "backbone_feature_sizes": [[scale * grid, scale * grid] for scale in (4, 2, 1)],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": sizes.vocabulary,
            "hidden_size": sizes.text_width,
            "intermediate_size": sizes.text_mlp,
            "projection_dim": sizes.text_projection,
            "num_hidden_layers": sizes.text_depth,
            "num_attention_heads": sizes.text_heads,
            "max_position_embeddings": sizes.text_length,
            "hidden_act": "gelu",
            "bos_token_id": sizes.vocabulary - 2,
            "eos_token_id": sizes.vocabulary - 1,
        },
        geometry_encoder_config={**layers, "num_layers": sizes.geometry_layers},
        detr_encoder_config={**layers, "num_layers": sizes.fusion_layers},
        detr_decoder_config={**layers, "num_layers": sizes.decoder_layers, "num_queries": sizes.queries},
        mask_decoder_config={**decoder, "num_upsampling_stages": sizes.mask_stages},
        **keys,
    )


def sizes_of(config: Mapping[str, Any]) -> Sam3Sizes:
    """The sizes that a `config.json` of transformers' Sam3 (or of its video model) names; the published where silent.

    Raises:
        ValueError: sizes that do not go together (pydantic's ValidationError is one).
    """
    whole = config.get("detector_config") or config
    vision, text = _part(whole, "vision_config"), _part(whole, "text_config")
    backbone = _part(vision, "backbone_config")
    fusion, decoder = _part(whole, "detr_encoder_config"), _part(whole, "detr_decoder_config")
    named = {
        "vision_width": backbone.get("hidden_size"),
        "vision_depth": backbone.get("num_hidden_layers"),
        "vision_heads": backbone.get("num_attention_heads"),
        "vision_mlp": backbone.get("intermediate_size"),
        "global_blocks": backbone.get("global_attn_indexes"),
        "window": backbone.get("window_size"),
        "patch": backbone.get("patch_size"),
        "pretrain_size": backbone.get("pretrain_image_size"),
        "text_width": text.get("hidden_size"),
        "text_depth": text.get("num_hidden_layers"),
        "text_heads": text.get("num_attention_heads"),
        "text_mlp": text.get("intermediate_size"),
        "text_projection": text.get("projection_dim"),
        "text_length": text.get("max_position_embeddings"),
        "vocabulary": text.get("vocab_size"),
        "width": fusion.get("hidden_size"),
        "heads": fusion.get("num_attention_heads"),
        "mlp": fusion.get("intermediate_size"),
        "fusion_layers": fusion.get("num_layers"),
        "decoder_layers": decoder.get("num_layers"),
        "geometry_layers": _part(whole, "geometry_encoder_config").get("num_layers"),
        "queries": decoder.get("num_queries"),
        "mask_stages": _part(whole, "mask_decoder_config").get("num_upsampling_stages"),
        "dropout": fusion.get("dropout"),
    }
    return Sam3Sizes.model_validate({name: value for name, value in named.items() if value is not None})


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, Mapping) else {}
