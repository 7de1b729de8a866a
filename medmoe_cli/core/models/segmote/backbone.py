"""The encoder of the SAM that SegMoTE extends, at the config's size."""

from __future__ import annotations

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.tiny import TinyEncoder
from medmoe_cli.core.nn.sam2d import SamEncoder, chosen_size


def build_encoder(config: SegmoteConfig, *, image_size: int) -> SamEncoder | TinyEncoder:
    """The image encoder at random weights.

    Raises:
        ConfigError: the sizes do not divide one another, or the early block does not exist.
    """
    size = chosen_size(config, image_size=image_size)
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
