"""The three parts of a 3D SAM under the names of its checkpoints."""

from __future__ import annotations

from torch import nn

from medmoe_cli.core.nn.sam3d.decoder import MaskDecoder3d
from medmoe_cli.core.nn.sam3d.encoder import Sam3dEncoder
from medmoe_cli.core.nn.sam3d.prompts import PromptEncoder3d
from medmoe_cli.core.nn.sam3d.sizes import Sam3dSize

NEW_TENSORS = ("prompt_encoder.point_embeddings.2.weight", "prompt_encoder.point_embeddings.3.weight")
"""A box's corners, which public checkpoints lack."""


class Sam3dParts(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        size: see `SAM3D_SIZES`.
        image_size: side of the input in voxels; None for the size's own.
        checkpointing: of the encoder.
    """

    def __init__(self, size: Sam3dSize, *, image_size: int | None = None, checkpointing: bool = False) -> None:
        super().__init__()
        self.image_encoder = Sam3dEncoder(size, image_size=image_size, checkpointing=checkpointing)
        self.prompt_encoder = PromptEncoder3d(size, image_size=image_size)
        self.mask_decoder = MaskDecoder3d(size)
