"""Checkpoints as the public projects write them."""

from pathlib import Path

import torch
from torch import Tensor

from medmoe_cli.core.nn.backbones import SamParts


def imisnet_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of IMISNet-B.pth: timm's encoder with its own neck, a 768-wide neck, decoder and text parts."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in SamParts("imisnet-b").state_dict().items()}
    renamed = {}
    for name, shape in shapes.items():
        if name.startswith("image_encoder.") and not name.startswith("image_encoder.neck."):
            name = "image_encoder.sam_encoder." + name.removeprefix("image_encoder.").replace("mlp.lin", "mlp.fc")
        renamed[name] = shape
    renamed |= {
        "image_encoder.sam_encoder.neck.0.weight": (256, 768, 1, 1),
        "image_encoder.sam_encoder.neck.1.weight": (256,),
        "image_encoder.sam_encoder.neck.1.bias": (256,),
        "image_encoder.sam_encoder.neck.2.weight": (256, 256, 3, 3),
        "image_encoder.sam_encoder.neck.3.weight": (256,),
        "image_encoder.sam_encoder.neck.3.bias": (256,),
        "mask_decoder.semantic_tokens.weight": (4, 768),
        "mask_decoder.text_output.weight": (96, 768),
        "mask_decoder.text_output.bias": (96,),
        "mask_decoder.semantic_prediction_head.layers.0.weight": (256, 768),
        "mask_decoder.semantic_prediction_head.layers.0.bias": (256,),
        "mask_decoder.semantic_prediction_head.layers.1.weight": (256, 256),
        "mask_decoder.semantic_prediction_head.layers.1.bias": (256,),
        "mask_decoder.semantic_prediction_head.layers.2.weight": (512, 256),
        "mask_decoder.semantic_prediction_head.layers.2.bias": (512,),
        "text_model.text_model.embeddings.position_embedding.weight": (77, 512),
        "text_model.text_model.final_layer_norm.weight": (512,),
        "text_out_dim.weight": (768, 512),
        "text_out_dim.bias": (768,),
    }
    return renamed


def write_imisnet(path: Path) -> dict[str, Tensor]:
    """Write a checkpoint in IMISNet-B's layout, every tensor of another value; return its tensors."""
    tensors = {
        name: torch.full(shape, number, dtype=torch.float16)
        for number, (name, shape) in enumerate(imisnet_shapes().items())
    }
    torch.save(tensors, path)
    return tensors
