"""The sizes of the SAM image encoder, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean

WINDOW = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class SamSize:
    """One size of the encoder.

    Attributes:
        name: as written in presets and after `models add`.
        width: channels of the transformer.
        depth: number of blocks.
        num_heads: attention heads.
        global_blocks: blocks that attend over the whole image; the others attend in windows of 14 x 14 tokens.
        patch: side of a patch in pixels.
        neck_width: channels of the image embedding, which is also the decoder's width.
        early_block: the block whose output is the 'early' feature map (the first global one, as in HQ-SAM).
    """

    name: str
    width: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    patch: int = 16
    neck_width: int = 256

    @property
    def early_block(self) -> int:
        """Index of the block whose output is exposed as early features."""
        return self.global_blocks[0]


_SIZES = (
    SamSize(name="sam-vit-b", width=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)),
    SamSize(name="sam-vit-l", width=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    SamSize(name="sam-vit-h", width=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
    SamSize(name="imisnet-b", width=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11), neck_width=768),
    SamSize(name="tiny", width=192, depth=6, num_heads=3, global_blocks=(2, 5), neck_width=128),
    SamSize(name="tiny-p8", width=192, depth=6, num_heads=3, global_blocks=(2, 5), neck_width=128, patch=8),
)

SAM_SIZES: Mapping[str, SamSize] = MappingProxyType({size.name: size for size in _SIZES})


def sam_size(name: str) -> SamSize:
    """Look a size up.

    Raises:
        ConfigError: no such size.
    """
    if name not in SAM_SIZES:
        raise ConfigError(
            f"unknown SAM size '{name}'",
            where="model.backbone",
            why=did_you_mean(name, SAM_SIZES),
            fix=f"set model.backbone to one of {', '.join(SAM_SIZES)}",
        )
    return SAM_SIZES[name]
