"""The SAM that MoE-SAM extends: its encoder at the config's size, and the pretrained tensors put into the model."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.nn.sam2d import AdapterSpec, ConvStem, SamEncoder, SamSize, resize_table, sam_size
from medmoe_cli.core.nn.weights import KeyReport, load_into, refuse_missing

SAM_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
SAM_MASKS = 4  # mask tokens that SAM's weights have
_TOKENS = "mask_decoder.mask_tokens.weight"
# The model's own beside SAM's: adapters, and heads of classes beyond SAM's masks.
_OWN = re.compile(r"image_encoder\.blocks\.\d+\.adapter\.|mask_decoder\.output_hypernetworks_mlps\.")


def encoder_size(config: MoeSamConfig) -> SamSize:
    """The size of the image encoder; tiny is sized by the config and attends globally in every block."""
    if config.backbone != "tiny":
        return sam_size(config.backbone)
    return SamSize(
        name="tiny",
        width=config.width,
        depth=config.depth,
        num_heads=config.heads,
        global_blocks=tuple(range(config.depth)),
        patch=config.patch_size,
        neck_width=config.decoder_width,
    )


def build_encoder(config: MoeSamConfig, *, image_size: int) -> SamEncoder:
    """The image encoder at random weights, with its adapters.

    Raises:
        ConfigError: the input size is no multiple of the patch.
    """
    size = encoder_size(config)
    if image_size % size.patch:
        raise ConfigError(
            f"input size {image_size} is not a multiple of the patch {size.patch}",
            where="plan.input_size",
            fix=f"set plan.input_size to {image_size // size.patch * size.patch or size.patch}",
        )
    adapter = None
    if config.adapter != "none":
        adapter = AdapterSpec(
            kind=config.adapter, ratio=config.adapter_ratio, scale=config.adapter_scale, rank=config.lora_rank
        )
    stem = None
    if config.stem == "conv":
        stem = ConvStem(size.width, patch=size.patch, stride=config.stem_stride, channels=config.stem_channels)
    return SamEncoder(size, image_size=image_size, checkpointing=config.checkpoint_encoder, adapter=adapter, stem=stem)


@torch.no_grad()
def load_sam(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> KeyReport:
    """Copy SAM's tensors into the parts that carry its names; position tables are resized to the input size.

    SAM's four mask tokens and their heads become those of the first classes (background first); further classes keep
    their random start. Of a trained MoE-SAM the parts beyond SAM come too, but for those of another shape.

    Args:
        model: with SAM's parts under SAM's names.
        tensors: by the model's names; what belongs to none of its parts is left alone.
        name: of the backbone, for the error.

    Returns:
        What was copied; `missing` holds what begins anew.

    Raises:
        CheckpointError: a tensor of SAM's parts is missing or has another shape; the first ones are named.
    """
    own = model.state_dict()
    parts = {
        key: tensor
        for key, tensor in tensors.items()
        if key.startswith(SAM_PARTS) or (key in own and own[key].shape == tensor.shape)
    }
    if _TOKENS in parts and parts[_TOKENS].shape[1:] == own[_TOKENS].shape[1:]:
        shared = min(len(own[_TOKENS]), len(parts[_TOKENS]))
        tokens = own[_TOKENS].clone()
        tokens[:shared] = parts[_TOKENS][:shared]
        parts[_TOKENS] = tokens
    report = load_into(model, parts, resize=resize_table, where=f"backbone '{name}'")
    missing = [key for key in report.missing if key.startswith(SAM_PARTS) and not _is_own(key)]
    refuse_missing(missing, name=name)
    return report


def _is_own(key: str) -> bool:
    if _OWN.match(key) is None:
        return False
    head = re.match(r"mask_decoder\.output_hypernetworks_mlps\.(\d+)\.", key)
    return head is None or int(head[1]) >= SAM_MASKS
