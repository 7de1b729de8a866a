"""The SAM image encoder in 2D, with SAM's own prompt encoder and mask decoder."""

from medmoe_cli.core.nn.sam2d.adapters import AdapterKind, AdapterSpec, BlockAdapter
from medmoe_cli.core.nn.sam2d.encoder import Encoding, SamEncoder, build_neck, normalise_pixels
from medmoe_cli.core.nn.sam2d.heads import SelfPromptEncoder, build_mask_decoder, build_prompt_encoder
from medmoe_cli.core.nn.sam2d.resize import resize_table
from medmoe_cli.core.nn.sam2d.sizes import SAM_SIZES, SamSize, sam_size
from medmoe_cli.core.nn.sam2d.start import chosen_size, load_start
from medmoe_cli.core.nn.sam2d.stem import ConvStem, Stemmed, conv_unit

__all__ = [
    "SAM_SIZES",
    "AdapterKind",
    "AdapterSpec",
    "BlockAdapter",
    "ConvStem",
    "Encoding",
    "SamEncoder",
    "SamSize",
    "SelfPromptEncoder",
    "Stemmed",
    "build_mask_decoder",
    "build_neck",
    "build_prompt_encoder",
    "chosen_size",
    "conv_unit",
    "load_start",
    "normalise_pixels",
    "resize_table",
    "sam_size",
]
