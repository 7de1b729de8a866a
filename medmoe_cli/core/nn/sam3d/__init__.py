"""SAM in 3D: SAM-Med3D's image encoder, prompt encoder and mask decoder, and a small one to train from scratch.

Network tensors are (B, C, D, H, W). Prompts are (x, y, z) with x along W, y along H and z along D, a voxel's centre at
+ 0.5. Which anatomical axis is D is the caller's choice; the public code predicts from the array (X, Y, Z) of
a canonical (RAS) volume as (D, H, W).
"""

from medmoe_cli.core.nn.sam3d.decoder import MaskDecoder3d
from medmoe_cli.core.nn.sam3d.encoder import Sam3dEncoder
from medmoe_cli.core.nn.sam3d.parts import NEW_TENSORS, Sam3dParts
from medmoe_cli.core.nn.sam3d.prompts import PromptEncoder3d, PromptTokens
from medmoe_cli.core.nn.sam3d.resize import resize_table_3d
from medmoe_cli.core.nn.sam3d.sizes import SAM3D_SIZES, Sam3dSize, sam3d_size

__all__ = [
    "NEW_TENSORS",
    "SAM3D_SIZES",
    "MaskDecoder3d",
    "PromptEncoder3d",
    "PromptTokens",
    "Sam3dEncoder",
    "Sam3dParts",
    "Sam3dSize",
    "resize_table_3d",
    "sam3d_size",
]
