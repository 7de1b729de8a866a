"""The image encoder at the config's size, and one whose patches come from a convolutional stem.

A patch embedding learns slowly from few volumes; convolutions learn edges in the first hundred steps, and their finer
maps are the detail that a small structure needs: SAM-Med3D's masks have a quarter of the embedding's cells, 3 mm here.

Shapes: B volumes, S side of the input, V encoder width, C neck width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.nn.patches import require_patches
from medmoe_cli.core.nn.sam3d import Sam3dEncoder, Sam3dSize, sam3d_size


def model_size(config: SamMed3dMoeConfig, *, image_size: int) -> Sam3dSize:
    """The size of encoder, prompt encoder and decoder; tiny is sized by the config.

    Raises:
        ConfigError: the input is not a multiple of the patch.
    """
    if config.backbone == "tiny":
        size = Sam3dSize(
            name="tiny",
            image_size=image_size,
            patch=config.patch_size,
            width=config.width,
            depth=config.depth,
            num_heads=config.heads,
            global_blocks=tuple(range(config.depth)),
            neck_width=config.decoder_width,
            decoder_mlp=config.decoder_mlp,
        )
    else:
        size = sam3d_size(config.backbone)
    require_patches(image_size, size.patch)
    return size


class StemEncoder(Sam3dEncoder):
    """SAM-Med3D's encoder behind a convolutional stem.

    Args:
        size: of the transformer.
        image_size: side of the input.
        channels: of the stem's finest map, which has the input's resolution.
        checkpointing: recompute blocks in the backward pass.
    """

    def __init__(self, size: Sam3dSize, *, image_size: int, channels: int, checkpointing: bool = False) -> None:
        super().__init__(size, image_size=image_size, checkpointing=checkpointing)
        self.add_module("patch_embed", nn.Identity())  # the stem makes the tokens
        self.stem1 = conv_unit(1, channels)  # one layer: at the full resolution each costs as much as all blocks
        self.stem2 = nn.Sequential(conv_unit(channels, 2 * channels, stride=2), conv_unit(2 * channels, 2 * channels))
        steps: list[nn.Module] = []
        reached, width = 2, 2 * channels
        while reached * 2 < size.patch:
            steps += [conv_unit(width, 2 * width, stride=2), conv_unit(2 * width, 2 * width)]
            reached, width = reached * 2, width * 2
        self.stem_rest = nn.Sequential(*steps, nn.Conv3d(width, size.width, 3, stride=2, padding=1))

    def forward(self, volume_B1DHW: Tensor) -> Tensor:
        """The embedding alone."""
        return self.maps(volume_B1DHW)["embedding"]

    def maps(self, volume_B1SSS: Tensor) -> Mapping[str, Tensor]:
        """'embedding' (B, C, s, s, s), 'stem1' at the input's resolution and 'stem2' at half of it."""
        at1 = self.stem1(volume_B1SSS)
        at2 = self.stem2(at1)
        tokens_BsssV = self.stem_rest(at2).permute(0, 2, 3, 4, 1) + self.pos_embed
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens_BsssV = checkpoint(block, tokens_BsssV, use_reentrant=False)
            else:
                tokens_BsssV = block(tokens_BsssV)
        return {"embedding": self.neck(tokens_BsssV.permute(0, 4, 1, 2, 3)), "stem1": at1, "stem2": at2}


def build_encoder(config: SamMed3dMoeConfig, size: Sam3dSize, *, image_size: int) -> Sam3dEncoder:
    """The image encoder at random weights."""
    if config.stem == "conv":
        return StemEncoder(
            size, image_size=image_size, channels=config.stem_channels, checkpointing=config.checkpoint_encoder
        )
    return Sam3dEncoder(size, image_size=image_size, checkpointing=config.checkpoint_encoder)


def conv_unit(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """3x3x3 convolution, group norm (a volume's result never depends on its batch), ReLU."""
    groups = next(count for count in (8, 4, 2, 1) if outputs % count == 0)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(groups, outputs), nn.ReLU()
    )
