"""DA-SAM3's own section of a preset; free of torch, so that presets are read and checked in no time."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from medmoe_cli.core.config.sam3 import PUBLISHED, Sam3Sizes, image_size_for
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.models.da_sam3.depths import moe_depths

LossName = Literal["dice", "batch_dice", "focal", "bce", "choice", "presence"]


class DaSam3Config(Section):
    """Values of the `model` section for `method: da-sam3`."""

    backbone: Literal["sam3", "tiny"] = Field(default="sam3", description="the SAM3 that is adapted")
    weights: str | None = Field(
        default=None,
        description="weights to start from: empty for the added model called like the backbone, random for tiny; the "
        "name of another added model or of a trained one; or 'random'",
    )
    image_size: int | None = Field(
        default=None,
        ge=32,
        description="side at which images are shown to SAM3; empty: the next of 336, 672 and 1008 pixels (tiny: the "
        "next whole number of patches)",
    )
    checkpoint_layers: bool = Field(
        default=False, description="recompute the fusion encoder in the backward pass: less memory, more time"
    )
    output: Literal["semantic", "instances"] = Field(
        default="semantic",
        description="the concept's mask: the semantic map, or the union of the instances weighted by their scores",
    )

    vision_width: int = Field(default=96, ge=16, description="tiny: width of the image encoder")
    vision_depth: int = Field(default=2, ge=1, description="tiny: number of its blocks, all of global attention")
    vision_heads: int = Field(default=4, ge=1, description="tiny: its attention heads")
    patch_size: int = Field(default=8, ge=4, description="tiny: side of a patch, pixels")
    stem: Literal["patch", "conv"] = Field(
        default="conv", description="tiny: SAM3's patches, or convolutions whose finer maps also join the mask features"
    )
    stem_channels: int = Field(
        default=16, ge=8, multiple_of=8, description="tiny with stem conv: channels at stride 1, doubled per stride"
    )
    finest_stride: int | None = Field(
        default=None, ge=1, description="tiny with stem conv: stride of the masks; empty: a quarter of the patch"
    )
    text_width: int = Field(default=64, ge=16, description="tiny: width of the text encoder")
    text_depth: int = Field(default=2, ge=1, description="tiny: number of its blocks")
    text_length: int = Field(default=24, ge=4, description="tiny: tokens of a text, both ends included")
    width: int = Field(default=64, ge=16, multiple_of=8, description="tiny: width of fusion encoder, decoder and masks")
    heads: int = Field(default=4, ge=1, description="tiny: their attention heads")
    mlp: int = Field(default=256, ge=8, description="tiny: inner width of their perceptrons")
    fusion_layers: int = Field(default=6, ge=1, description="tiny: layers of the fusion encoder")
    decoder_layers: int = Field(default=2, ge=2, description="tiny: layers of the decoder, which tells presence")
    queries: int = Field(default=8, ge=1, description="tiny: object queries of the decoder")
    train_backbone: bool = Field(
        default=False, description="train image encoder, text encoder, decoder and mask head too: from scratch"
    )

    experts: Literal["low-rank", "full", "lora", "none"] = Field(
        default="low-rank",
        description="what replaces a feed-forward network: low-rank deltas per expert (DPE), full copies, a single "
        "low-rank delta without routing, or nothing (paper table 2)",
    )
    router: Literal["dual", "token", "random"] = Field(
        default="dual",
        description="routes by token, image and concept (DER), by token alone (standard MoE), or at random (table 2)",
    )
    moe_layers: tuple[int, ...] | None = Field(
        default=None, description="layers of the fusion encoder that get experts, from 0; empty: depths L/6, L/4, L/2"
    )
    num_experts: int | None = Field(default=None, ge=1, le=32, description="experts E; empty: the plan's num_experts")
    top_k: int = Field(default=2, ge=1, description="experts each token uses")
    rank: int = Field(default=8, ge=1, description="rank of an expert's deltas")
    context_grid: int = Field(
        default=8, ge=2, description="side of the grid to which the image is pooled for the router's context"
    )
    balance_weight: float = Field(default=0.01, ge=0, description="lambda 1: CV^2(importance) + CV^2(load) of experts")
    entropy_weight: float = Field(default=0.001, ge=0, description="lambda 2: entropy of the router's distribution")

    losses: dict[LossName, float] = Field(
        default={"dice": 1.0, "focal": 1.0, "presence": 1.0},
        description="weight by loss: eq. 7's dice and focal, bce; batch_dice sums over a class's queries; choice lets "
        "names compete for pixels, then in prediction too; presence: whether there is anything",
    )
    absent_share: float = Field(
        default=0.25, ge=0, lt=1, description="share of the queries that name a class that is not in the image"
    )
    calibrate: bool = Field(
        default=True, description="the second stage, in which the routers alone train (section 2.4)"
    )
    calibrate_share: float = Field(default=0.2, gt=0, lt=1, description="its share of the training's steps")
    calibrate_rate: float = Field(default=1e-4, gt=0, description="its learning rate")

    @field_validator("losses")
    @classmethod
    def _weights(cls, value: dict[LossName, float]) -> dict[LossName, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("weights must not be negative and not all zero")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.num_experts is not None and self.routed and self.top_k > self.num_experts:
            raise ValueError(f"top_k {self.top_k} is more than num_experts {self.num_experts}")
        if self.backbone == "tiny" and self.stem == "conv":
            if self.patch_size & (self.patch_size - 1):
                raise ValueError(f"patch_size {self.patch_size} is not a power of two, as stem: conv needs it")
            finest = self.mask_stride
            if finest & (finest - 1) or finest * 4 > self.patch_size:
                raise ValueError(f"finest_stride {finest} is no power of two of at most a quarter of the patch")
        elif self.backbone == "tiny" and self.finest_stride is not None:
            raise ValueError("finest_stride needs stem: conv")
        elif self.backbone == "sam3" and self.image_size not in {None, 336, 672, 1008}:
            raise ValueError(f"image_size {self.image_size}: SAM3's windows fit 336, 672 and 1008")
        if self.experts != "none":
            layers = moe_depths(self.sizes_at(336).fusion_layers, chosen=self.moe_layers)
            if len(set(layers)) != len(layers) or not layers:
                raise ValueError("moe_layers names a layer twice or none")
        return self

    @property
    def backbone_weights(self) -> str | None:
        """Name of the added model that supplies the weights; None for random ones."""
        if self.weights == "random" or (self.backbone == "tiny" and self.weights is None):
            return None
        return self.weights or self.backbone

    @property
    def routed(self) -> bool:
        """True when a router chooses among experts."""
        return self.experts in {"low-rank", "full"}

    @property
    def learned_router(self) -> bool:
        """True when that router has parameters."""
        return self.routed and self.router != "random"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the fusion encoder that get experts, from 0."""
        if self.experts == "none":
            return ()
        return moe_depths(self.sizes_at(336).fusion_layers, chosen=self.moe_layers)

    @property
    def mask_stride(self) -> int:
        """Tiny with a convolutional stem: stride of the finest map."""
        return self.finest_stride or max(self.patch_size // 4, 1)

    def shown_size(self, input_size: int) -> int:
        """Side at which images of `input_size` pixels are shown to SAM3."""
        if self.backbone == "sam3":
            return self.image_size or image_size_for(input_size)
        side = self.image_size or input_size
        return -(-side // self.patch_size) * self.patch_size

    def sizes_at(self, image_size: int) -> Sam3Sizes:
        """The SAM3's sizes; the small one's position table is as large as its images."""
        if self.backbone == "sam3":
            return PUBLISHED
        side = -(-image_size // self.patch_size) * self.patch_size
        levels = 3 if self.stem == "patch" else (self.patch_size // self.mask_stride).bit_length()
        return Sam3Sizes(
            vision_width=self.vision_width,
            vision_depth=self.vision_depth,
            vision_heads=self.vision_heads,
            vision_mlp=2 * self.vision_width,
            global_blocks=tuple(range(self.vision_depth)),
            window=side // self.patch_size,
            patch=self.patch_size,
            pretrain_size=side,
            text_width=self.text_width,
            text_depth=self.text_depth,
            text_heads=4,
            text_mlp=2 * self.text_width,
            text_projection=8,
            text_length=self.text_length,
            vocabulary=514 + 640,
            width=self.width,
            heads=self.heads,
            mlp=self.mlp,
            fusion_layers=self.fusion_layers,
            decoder_layers=self.decoder_layers,
            geometry_layers=1,
            queries=self.queries,
            mask_stages=levels - 1,
            dropout=0.0,
        )
