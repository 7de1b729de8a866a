"""How DA-SAM3 trains: experts, routers and norms first, then the routers alone (paper section 2.4)."""

from __future__ import annotations

from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.nn.segmenter import Stage

ENCODER_PARTS = ("sam3.vision_encoder.", "stem.", "channel_mix.")
_VISION = ("sam3.vision_encoder.backbone.", "stem.", "channel_mix.")
_TEXT = ("sam3.text_encoder.text_model.", "sam3.text_projection.")
_DECODER = (
    "layers.",
    "query_embed.",
    "reference_points.",
    "presence_token.",
    "presence_head.",
    "presence_layer_norm.",
    "ref_point_head.",
    "box_rpb_embed_x.",
    "box_rpb_embed_y.",
)
_MASK = ("pixel_decoder.", "prompt_cross_attn.", "prompt_cross_attn_norm.")
_FUSION = "sam3.detr_encoder.layers."


def training_stages(config: DaSam3Config, *, num_layers: int, learns_channels: bool) -> tuple[Stage, ...]:
    """The stages of a model.

    Args:
        config: the `model` section.
        num_layers: of the fusion encoder.
        learns_channels: images have a number of channels that SAM3 does not take, so a learned mix comes first.
    """
    losses = {str(name): weight for name, weight in config.losses.items() if weight > 0}
    parts = backbone_parts(config) if config.train_backbone else adapted_parts(config, num_layers=num_layers)
    if learns_channels and not config.train_backbone:
        parts += ("channel_mix.",)
    two = config.calibrate and config.learned_router
    adapt = Stage(
        name="adapt",
        task="prompted",
        trainable=parts,
        share=1 - config.calibrate_share if two else 1.0,
        prompt_mix={"text": 1.0},
        absent_share=config.absent_share,
        losses=losses,
    )
    if not two:
        return (adapt,)
    calibrate = Stage(
        name="calibrate",
        task="prompted",
        trainable=router_parts(config),
        share=config.calibrate_share,
        learning_rate=config.calibrate_rate,
        prompt_mix={"text": 1.0},
        absent_share=config.absent_share,
        losses=losses,
    )
    return (adapt, calibrate)


def adapted_parts(config: DaSam3Config, *, num_layers: int) -> tuple[str, ...]:
    """What is new in the fusion encoder, and its norms."""
    norms = tuple(f"{_FUSION}{layer}.layer_norm" for layer in range(num_layers))
    experts = tuple(f"{_FUSION}{layer}.experts." for layer in config.layers)
    return (*experts, *router_parts(config), *norms)


def router_parts(config: DaSam3Config) -> tuple[str, ...]:
    """The routers, their attention to the image included."""
    return tuple(f"{_FUSION}{layer}.router." for layer in config.layers) if config.learned_router else ()


def backbone_parts(config: DaSam3Config) -> tuple[str, ...]:
    """All that the answer depends on; SAM3's boxes, and what only they or its instances need, stay out."""
    levels = tuple(f"sam3.vision_encoder.neck.fpn_layers.{level}." for level in range(3))
    head = (*_MASK, "semantic_projection.") if config.output == "semantic" else _INSTANCES_MASK
    decoder = _DECODER if config.output == "semantic" else (*_DECODER, "output_layer_norm.")
    return (
        *_VISION,
        *levels,
        *_TEXT,
        _FUSION,
        *(f"sam3.detr_decoder.{part}" for part in decoder),
        *(f"sam3.mask_decoder.{part}" for part in head),
        *(("sam3.dot_product_scoring.",) if config.output == "instances" else ()),
    )


_INSTANCES_MASK = (*_MASK, "mask_embedder.", "instance_projection.")
