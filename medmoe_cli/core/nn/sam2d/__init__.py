"""The SAM image encoder in 2D, with SAM's own prompt encoder and mask decoder."""

from medmoe_cli.core.nn.sam2d.encoder import Encoding, SamEncoder, normalise_pixels
from medmoe_cli.core.nn.sam2d.heads import build_mask_decoder, build_prompt_encoder
from medmoe_cli.core.nn.sam2d.resize import resize_table
from medmoe_cli.core.nn.sam2d.sizes import SAM_SIZES, SamSize, sam_size

__all__ = [
    "SAM_SIZES",
    "Encoding",
    "SamEncoder",
    "SamSize",
    "build_mask_decoder",
    "build_prompt_encoder",
    "normalise_pixels",
    "resize_table",
    "sam_size",
]
