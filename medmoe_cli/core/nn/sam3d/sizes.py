"""The sizes of the 3D SAM (SAM-Med3D and one to train from scratch), as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Sam3dSize:
    """One size of encoder, prompt encoder and decoder.

    Attributes:
        name: as written in presets and after `models add`.
        image_size: side of the input cube in voxels.
        patch: side of a patch in voxels.
        width: channels of the transformer.
        depth: number of blocks.
        num_heads: attention heads.
        global_blocks: blocks that attend over the whole volume; the others attend in windows.
        window: side of a window in tokens.
        neck_width: channels of the image embedding and of the decoder, a multiple of 48 (three parts of a position
            code, eight heads at half the width).
        decoder_mlp: hidden width of the decoder's MLPs.
        published_positions: compute positions as the public code does, two mistakes included, because its weights
            learned with them: (1) all three relative position biases land on the last key axis,
            `bias[(d,h,w),(i,j,l)] = q[d,h,w].Rd[d,l] + q[d,h,i].Rh[h,l] + q[d,h,j].Rw[j,l]`; (2) the dense position
            grid swaps its first two axes relative to the coordinates of points. Off for models trained from scratch.
    """

    name: str
    image_size: int
    patch: int
    width: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    neck_width: int = 384
    decoder_mlp: int = 2048
    published_positions: bool = False


_SIZES = (
    Sam3dSize(
        name="sam-med3d",
        image_size=128,
        patch=16,
        width=768,
        depth=12,
        num_heads=12,
        global_blocks=(2, 5, 8, 11),
        published_positions=True,
    ),
    # 8 x 8 x 8 tokens fit into one window, so windows would only add padding: every block is global.
    Sam3dSize(
        name="tiny",
        image_size=64,
        patch=8,
        width=192,
        depth=6,
        num_heads=3,
        global_blocks=(0, 1, 2, 3, 4, 5),
        neck_width=192,
        decoder_mlp=512,
    ),
)

SAM3D_SIZES: Mapping[str, Sam3dSize] = MappingProxyType({size.name: size for size in _SIZES})


def sam3d_size(name: str) -> Sam3dSize:
    """Look a size up.

    Raises:
        ConfigError: no such size.
    """
    if name not in SAM3D_SIZES:
        raise ConfigError(
            f"unknown 3D SAM size '{name}'",
            where="model.backbone",
            why=did_you_mean(name, SAM3D_SIZES),
            fix=f"set model.backbone to one of {', '.join(SAM3D_SIZES)}",
        )
    return SAM3D_SIZES[name]
