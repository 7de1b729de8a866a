"""The SAM that MoE-SAM extends: its encoder at the config's size, and the pretrained tensors put into the model."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.nn.sam2d import AdapterSpec, ConvStem, SamEncoder, chosen_size, load_start
from medmoe_cli.core.nn.weights import KeyReport

SAM_MASKS = 4  # mask tokens that SAM's weights have
_TOKENS = "mask_decoder.mask_tokens.weight"
# The model's own beside SAM's: adapters, and heads of classes beyond SAM's masks.
_OWN = re.compile(r"image_encoder\.blocks\.\d+\.adapter\.|mask_decoder\.output_hypernetworks_mlps\.")


def build_encoder(config: MoeSamConfig, *, image_size: int) -> SamEncoder:
    """The image encoder at random weights, with its adapters.

    Raises:
        ConfigError: the input size is no multiple of the patch.
    """
    size = chosen_size(config, image_size=image_size)
    adapter = None
    if config.adapter != "none":
        adapter = AdapterSpec(
            kind=config.adapter, ratio=config.adapter_ratio, scale=config.adapter_scale, rank=config.lora_rank
        )
    stem = None
    if config.stem == "conv":
        stem = ConvStem(size.width, patch=size.patch, stride=config.stem_stride, channels=config.stem_channels)
    return SamEncoder(size, image_size=image_size, checkpointing=config.checkpoint_encoder, adapter=adapter, stem=stem)


def load_sam(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> KeyReport:
    """Start from a SAM's tensors, or from those of a trained MoE-SAM, as `load_start` does.

    SAM's four mask tokens and their heads become those of the first classes (background first); further classes keep
    their random start.

    Args:
        model: with SAM's parts under SAM's names.
        tensors: by the model's names.
        name: of what they are of, for the error.

    Raises:
        CheckpointError: a tensor of SAM's parts is missing or has another shape; the first ones are named.
    """
    own_tokens = model.state_dict()[_TOKENS]
    theirs = tensors.get(_TOKENS)
    if theirs is not None and theirs.shape[1:] == own_tokens.shape[1:]:
        shared = min(len(own_tokens), len(theirs))
        tensors = {**tensors, _TOKENS: torch.cat([theirs[:shared], own_tokens[shared:]])}
    return load_start(model, tensors, name=name, is_own=_is_own)


def _is_own(key: str) -> bool:
    if _OWN.match(key) is None:
        return False
    head = re.match(r"mask_decoder\.output_hypernetworks_mlps\.(\d+)\.", key)
    return head is None or int(head[1]) >= SAM_MASKS
