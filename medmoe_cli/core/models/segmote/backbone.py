"""The SAM that SegMoTE extends: its encoder at the config's size, and the pretrained tensors put into the model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.tiny import TinyEncoder
from medmoe_cli.core.nn.sam2d import SamEncoder, SamSize, resize_table, sam_size
from medmoe_cli.core.nn.weights import KeyReport, load_into, refuse_missing

BACKBONE_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def encoder_size(config: SegmoteConfig) -> SamSize:
    """The size of the backbone's image encoder; tiny is sized by the config and attends globally in every block."""
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


def build_encoder(config: SegmoteConfig, *, image_size: int) -> SamEncoder | TinyEncoder:
    """The image encoder at random weights.

    Raises:
        ConfigError: the sizes do not divide one another, or the early block does not exist.
    """
    size = encoder_size(config)
    if image_size % size.patch:
        raise ConfigError(
            f"input size {image_size} is not a multiple of the patch {size.patch}",
            where="plan.input_size",
            fix=f"set plan.input_size to {image_size // size.patch * size.patch or size.patch}",
        )
    encoded_size = min(config.encoder_size or image_size, image_size)
    if image_size % encoded_size or encoded_size % size.patch:
        raise ConfigError(
            f"images of {image_size} pixels cannot be encoded at {encoded_size}",
            where="model.encoder_size",
            why=f"it must divide the input size and be a multiple of {size.patch}",
            fix=f"set model.encoder_size to {image_size} or {image_size // 2}",
        )
    if config.early_block is not None and config.early_block >= size.depth:
        raise ConfigError(
            f"early_block {config.early_block} does not exist",
            where="model.early_block",
            why=f"{size.name} has blocks 0 to {size.depth - 1}",
            fix=f"set model.early_block to {size.early_block}",
        )
    if config.stem == "conv":
        return TinyEncoder(
            size,
            image_size=image_size,
            encoder_size=encoded_size,
            early_block=config.early_block,
            checkpointing=config.checkpoint_encoder,
        )
    return SamEncoder(
        size, image_size=image_size, early_block=config.early_block, checkpointing=config.checkpoint_encoder
    )


def load_backbone_tensors(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> KeyReport:
    """Copy a backbone's tensors into the parts that carry SAM's names; position tables are resized to the input size.

    Of a trained SegMoTE the parts beyond SAM come too, but for those of another shape, such as the embeddings of other
    classes.

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
        if key.startswith(BACKBONE_PARTS) or (key in own and own[key].shape == tensor.shape)
    }
    report = load_into(model, parts, resize=resize_table, where=f"backbone '{name}'")
    missing = [key for key in report.missing if key.startswith(BACKBONE_PARTS)]
    refuse_missing(missing, name=name)
    return report
