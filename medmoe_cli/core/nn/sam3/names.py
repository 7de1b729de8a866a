"""From the names of the original release (sam3.pt) to those of transformers' Sam3Model.

The original holds attention's three projections in one tensor, its rotary tables as buffers, a class position that the
image encoder never uses, and point prompts that transformers leaves out.
Source: names of both public releases; no line of either's conversion is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_DETECTOR = ("detector.", "detector_model.")
_TRACKER = ("tracker.", "tracker_model.", "tracker_neck.")

_PLAIN: tuple[tuple[str, str], ...] = (
    (r"^backbone\.vision_backbone\.trunk\.pos_embed$", "vision_encoder.backbone.embeddings.position_embeddings"),
    (
        r"^backbone\.vision_backbone\.trunk\.patch_embed\.proj\.",
        "vision_encoder.backbone.embeddings.patch_embeddings.projection.",
    ),
    (r"^backbone\.vision_backbone\.trunk\.ln_pre\.", "vision_encoder.backbone.layer_norm."),
    (
        r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.norm([12])\.",
        r"vision_encoder.backbone.layers.\1.layer_norm\2.",
    ),
    (
        r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn\.proj\.",
        r"vision_encoder.backbone.layers.\1.attention.o_proj.",
    ),
    (r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn\.", r"vision_encoder.backbone.layers.\1.attention."),
    (r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.mlp\.", r"vision_encoder.backbone.layers.\1.mlp."),
    (r"^backbone\.vision_backbone\.convs\.(\d+)\.dconv_2x2_0\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.0."),
    (r"^backbone\.vision_backbone\.convs\.(\d+)\.dconv_2x2_1\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.2."),
    (r"^backbone\.vision_backbone\.convs\.(\d+)\.dconv_2x2\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.0."),
    (r"^backbone\.vision_backbone\.convs\.(\d+)\.conv_1x1\.", r"vision_encoder.neck.fpn_layers.\1.proj1."),
    (r"^backbone\.vision_backbone\.convs\.(\d+)\.conv_3x3\.", r"vision_encoder.neck.fpn_layers.\1.proj2."),
    (r"^backbone\.language_backbone\.resizer\.", "text_projection."),
    (r"^backbone\.language_backbone\.encoder\.text_projection$", "text_encoder.text_projection.weight"),
    (
        r"^backbone\.language_backbone\.encoder\.positional_embedding$",
        "text_encoder.text_model.embeddings.position_embedding.weight",
    ),
    (
        r"^backbone\.language_backbone\.encoder\.token_embedding\.",
        "text_encoder.text_model.embeddings.token_embedding.",
    ),
    (r"^backbone\.language_backbone\.encoder\.ln_final\.", "text_encoder.text_model.final_layer_norm."),
    (
        r"^backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.ln_([12])\.",
        r"text_encoder.text_model.encoder.layers.\1.layer_norm\2.",
    ),
    (
        r"^backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.attn\.",
        r"text_encoder.text_model.encoder.layers.\1.self_attn.",
    ),
    (
        r"^backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.",
        r"text_encoder.text_model.encoder.layers.\1.mlp.fc1.",
    ),
    (
        r"^backbone\.language_backbone\.encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.",
        r"text_encoder.text_model.encoder.layers.\1.mlp.fc2.",
    ),
    (r"^geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"^geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
    (r"^geometry_encoder\.encode\.", "geometry_encoder.layers."),
    (r"^transformer\.encoder\.layers\.", "detr_encoder.layers."),
    (r"^transformer\.decoder\.norm\.", "detr_decoder.output_layer_norm."),
    (r"^transformer\.decoder\.bbox_embed\.", "detr_decoder.box_head."),
    (r"^transformer\.decoder\.boxRPB_embed_([xy])\.", r"detr_decoder.box_rpb_embed_\1."),
    (r"^transformer\.decoder\.presence_token_head\.", "detr_decoder.presence_head."),
    (r"^transformer\.decoder\.presence_token_out_norm\.", "detr_decoder.presence_layer_norm."),
    (r"^transformer\.decoder\.", "detr_decoder."),
    (r"^segmentation_head\.mask_predictor\.mask_embed\.", "mask_decoder.mask_embedder."),
    (r"^segmentation_head\.cross_attend_prompt\.", "mask_decoder.prompt_cross_attn."),
    (r"^segmentation_head\.cross_attn_norm\.", "mask_decoder.prompt_cross_attn_norm."),
    (r"^segmentation_head\.semantic_seg_head\.", "mask_decoder.semantic_projection."),
    (r"^segmentation_head\.instance_seg_head\.", "mask_decoder.instance_projection."),
    (r"^segmentation_head\.", "mask_decoder."),
    (r"^dot_prod_scoring\.prompt_mlp\.out_norm\.", "dot_product_scoring.text_mlp_out_norm."),
    (r"^dot_prod_scoring\.prompt_mlp\.", "dot_product_scoring.text_mlp."),
    (r"^dot_prod_scoring\.prompt_proj\.", "dot_product_scoring.text_proj."),
    (r"^dot_prod_scoring\.hs_proj\.", "dot_product_scoring.query_proj."),
)
# Names inside the layers of encoder, decoder and geometry encoder; order matters where one is part of another.
_INNER: tuple[tuple[str, str], ...] = (
    (r"^(geometry_encoder|detr_encoder)(.*)\.cross_attn_image\.", r"\1\2.cross_attn."),
    (r"^(geometry_encoder|detr_encoder)(\.layers\.\d+)\.norm([123])\.", r"\1\2.layer_norm\3."),
    (r"^(detr_decoder\.layers\.\d+)\.cross_attn\.", r"\1.vision_cross_attn."),
    (r"^(detr_decoder\.layers\.\d+)\.ca_text\.", r"\1.text_cross_attn."),
    (r"^(detr_decoder\.layers\.\d+)\.catext_norm\.", r"\1.text_cross_attn_layer_norm."),
    (r"^(detr_decoder\.layers\.\d+)\.norm1\.", r"\1.vision_cross_attn_layer_norm."),
    (r"^(detr_decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
    (r"^(detr_decoder\.layers\.\d+)\.norm3\.", r"\1.mlp_layer_norm."),
    (r"^(.*\.layers\.\d+)\.linear([12])\.", r"\1.mlp.fc\2."),
    (r"^(geometry_encoder|detr_encoder|detr_decoder|mask_decoder)(.*)\.out_proj\.", r"\1\2.o_proj."),
)
# Small perceptrons count their layers from zero there, from one here; mask embedder, pixel decoder do as there.
_COUNTED = re.compile(
    r"^(detr_decoder\.(?:box_head|presence_head|ref_point_head|box_rpb_embed_[xy])|dot_product_scoring\.text_mlp)"
    r"\.layers\.(\d+)\."
)
_FUSED = re.compile(r"^(.*)\.(?:qkv\.|in_proj_)(weight|bias)$")
_DROPPED = re.compile(
    r"attn\.freqs_cis$|^geometry_encoder\.points_|^backbone\.vision_backbone\.sam2_convs\."
    r"|^backbone\.language_backbone\.encoder\.attn_mask$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Renamed:
    """Tensors under transformers' names, and the names of the source that have no use there."""

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]


def to_transformers(tensors: Mapping[str, Tensor]) -> Renamed:
    """A SAM3 checkpoint of either release under the names of `Sam3Model`.

    Args:
        tensors: by name, with or without the prefixes of detector and tracker.
    """
    left_out = [name for name in tensors if name.startswith(_TRACKER)]
    own = {_without_prefix(name): tensor for name, tensor in tensors.items() if not name.startswith(_TRACKER)}
    if not any(name.startswith(("backbone.", "transformer.")) for name in own):
        return Renamed(tensors=own, left_out=tuple(left_out))
    renamed: dict[str, Tensor] = {}
    for name, tensor in own.items():
        if _DROPPED.search(name):
            left_out.append(name)
            continue
        renamed |= _one(name, tensor)
    return Renamed(tensors=renamed, left_out=tuple(left_out))


def _one(name: str, tensor: Tensor) -> dict[str, Tensor]:
    new = _renamed(name)
    if new == "vision_encoder.backbone.embeddings.position_embeddings" and tensor.ndim == 3:
        side = int((tensor.shape[1] - 1) ** 0.5)
        return {new: tensor[:, 1:] if side * side == tensor.shape[1] - 1 else tensor}  # the first is the class token's
    if new == "text_encoder.text_projection.weight":
        return {new: tensor.T.contiguous()}
    fused = _FUSED.match(new)
    if fused is None:
        return {new: tensor}
    parts = tensor.chunk(3, dim=0)
    return {f"{fused[1]}.{part}_proj.{fused[2]}": piece.contiguous() for part, piece in zip("qkv", parts, strict=True)}


def _renamed(name: str) -> str:
    for pattern, replacement in _PLAIN:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    for pattern, replacement in _INNER:
        name = re.sub(pattern, replacement, name)
    return _COUNTED.sub(lambda match: f"{match[1]}.layer{int(match[2]) + 1}.", name)


def _without_prefix(name: str) -> str:
    for prefix in _DETECTOR:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
