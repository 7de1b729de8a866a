"""MoE-SAM's own section of a preset; free of torch, so that presets are read and checked in no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from medmoe_cli.core.config.sections import Section

Backbone = Literal["tiny", "sam-vit-b", "sam-vit-l", "sam-vit-h"]
Adapter = Literal["attention+mlp", "attention", "lora", "sam-med2d", "none"]


class MoeSamConfig(Section):
    """Values of the `model` section for `method: moe-sam`."""

    backbone: Backbone = Field(default="sam-vit-b", description="SAM that MoE-SAM extends")
    weights: str | None = Field(
        default=None,
        description="weights to start from: empty for the added model called like the backbone, random for tiny; the "
        "name of another added model or of a trained one; or 'random'",
    )
    normalise: Literal["sam", "none"] = Field(
        default="sam", description="sam: SAM's mean and deviation of pixels; none: pixels in [0, 1] (public code)"
    )
    input_projection: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="learned map of the input's channels to three; auto: where they are not 1 or 3, or neighbouring "
        "slices are shown",
    )
    width: int = Field(default=192, ge=16, description="tiny: width of the image encoder")
    depth: int = Field(default=6, ge=1, description="tiny: number of encoder blocks")
    heads: int = Field(default=3, ge=1, description="tiny: attention heads of the encoder")
    patch_size: Literal[4, 8, 16] = Field(default=16, description="tiny: side of a patch, pixels")
    decoder_width: int = Field(default=128, ge=32, description="tiny: width of embedding and mask decoder")
    decoder_mlp: int = Field(default=512, ge=1, description="tiny: inner width of the mask decoder's MLPs")
    stem: Literal["patch", "conv"] = Field(
        default="patch", description="tiny: SAM's patches, or convolutions whose finer maps also join the mask features"
    )
    stem_stride: Literal[1, 2, 4] = Field(
        default=1, description="tiny with stem conv: stride of its finest map, which is the masks' resolution"
    )
    stem_channels: int = Field(
        default=16, ge=1, description="tiny with stem conv: channels of its finest map, doubled with every stride"
    )
    checkpoint_encoder: bool = Field(
        default=False, description="recompute the encoder's activations in the backward pass: less memory, more time"
    )
    train_encoder: bool = Field(default=False, description="train the image encoder too, for starting from scratch")

    adapter: Adapter = Field(
        default="attention+mlp", description="what trains inside the frozen encoder (paper tables 2 and 3)"
    )
    adapter_ratio: float = Field(default=0.25, gt=0, le=1, description="inner width of an adapter over the encoder's")
    adapter_scale: float = Field(default=0.5, gt=0, description="factor of what an adapter adds")
    lora_rank: int = Field(default=4, ge=1, description="rank of the LoRA deltas of queries and values")

    fusion: Literal["moe", "add", "none"] = Field(
        default="moe", description="feature enhancing block: experts, plain sum of the layers (table 3), or none"
    )
    num_experts: int | None = Field(default=None, ge=1, description="experts E; empty: the plan's num_experts")
    num_active: int | None = Field(
        default=None, ge=1, description="layers k that each expert chooses; empty: half of them, rounded up"
    )
    routing_group: Literal["location", "image"] = Field(
        default="location",
        description="experts choose among the layers at each location, or among all tokens of all layers of an image",
    )
    expert_width: int | None = Field(
        default=None, ge=1, description="inner width d' of an expert; empty: four times the encoder's width"
    )
    residual: bool = Field(default=True, description="add what was routed to what the experts made of it")
    noise: bool = Field(default=True, description="learned noise on the routing scores while training (eq. 2)")
    fusion_norm: bool = Field(default=False, description="normalise each layer's features before they are routed")
    fusion_attention: Literal["fused", "all_layers"] = Field(
        default="fused",
        description="self-attention over the locations after the layers are averaged, or over all layers' tokens",
    )
    fusion_heads: int = Field(default=8, ge=1, description="heads of that self-attention")
    attention_residual: bool = Field(default=True, description="add that self-attention's input to its output")

    lpeg: bool = Field(default=True, description="lightweight prompt embedding generator; without it no prompt tokens")
    lpeg_pool: int = Field(default=1, ge=1, description="side p of the pooled grid, which makes p * p prompt tokens")
    lpeg_width: int = Field(default=64, ge=1, description="inner width of the generator's bottleneck")

    dice_weight: float = Field(default=0.8, ge=0, le=1, description="lambda of (1 - lambda) CE + lambda Dice (eq. 7)")
    dice_over: Literal["batch", "image"] = Field(
        default="batch", description="what Dice sums over: the batch (public code), or each image by itself"
    )

    @model_validator(mode="after")
    def _together(self) -> MoeSamConfig:
        if self.backbone != "tiny" and self.stem == "conv":
            raise ValueError("stem: conv is for backbone: tiny")
        if self.stem == "conv" and self.stem_stride >= self.patch_size:
            raise ValueError(f"stem_stride {self.stem_stride} is not smaller than patch_size {self.patch_size}")
        if self.backbone == "tiny":
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
            if self.fusion == "moe" and self.width % self.fusion_heads:
                raise ValueError(f"width {self.width} is not a multiple of fusion_heads {self.fusion_heads}")
            if self.decoder_width % 32:
                raise ValueError(f"decoder_width {self.decoder_width} is not a multiple of 32")
        return self

    @property
    def backbone_weights(self) -> str | None:
        """Name of the added model that supplies the weights; None for random ones."""
        if self.weights == "random" or (self.backbone == "tiny" and self.weights is None):
            return None
        return self.weights or self.backbone

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight by loss name; a loss of weight zero is left out."""
        dice = "batch_dice" if self.dice_over == "batch" else "dice"
        weights = {"cross_entropy": 1 - self.dice_weight, dice: self.dice_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}
