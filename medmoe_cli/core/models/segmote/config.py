"""SegMoTE's own section of a preset; free of torch, so that presets are read and checked in no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from medmoe_cli.core.config.sections import Section

Backbone = Literal["tiny", "sam-vit-b", "sam-vit-l", "sam-vit-h", "imisnet-b"]
LossName = Literal["dice", "focal", "bce", "score"]
FirstPrompt = Literal["box", "point", "text"]
Prior = Literal["mask", "text", "none"]

LOSS_PRESETS: Mapping[str, Mapping[LossName, float]] = {
    # Eq. 10; the score head, which the paper does not mention, learns the IoU by mean squared error.
    "paper": {"dice": 1.0, "score": 1.0},
    # The public training code.
    "code": {"focal": 20.0, "dice": 1.0, "score": 1.0},
}


class SegmoteConfig(Section):
    """Values of the `model` section for `method: segmote`."""

    backbone: Backbone = Field(default="sam-vit-b", description="image encoder and mask decoder that SegMoTE extends")
    weights: str | None = Field(
        default=None,
        description="weights to start from: empty for the added model called like the backbone, random for tiny; the "
        "name of another added model or of a trained one; or 'random'",
    )
    width: int = Field(default=192, ge=16, description="tiny: width of the image encoder")
    depth: int = Field(default=6, ge=1, description="tiny: number of encoder blocks")
    heads: int = Field(default=3, ge=1, description="tiny: attention heads of the encoder")
    patch_size: Literal[8, 16] = Field(default=16, description="tiny: side of a patch, pixels")
    decoder_width: int = Field(default=128, ge=32, description="tiny: width of prompts and mask decoder")
    stem: Literal["patch", "conv"] = Field(
        default="patch", description="tiny: SAM's patches, or convolutions whose outputs also join the mask features"
    )
    encoder_size: int | None = Field(
        default=None,
        ge=32,
        description="tiny with stem conv: side at which larger images are encoded, a divisor of the input size",
    )
    early_block: int | None = Field(
        default=None,
        ge=0,
        description="encoder block, from 0, whose output joins the mask features; empty: the first "
        "that attends globally (block 2 of ViT-B)",
    )
    checkpoint_encoder: bool = Field(
        default=False, description="recompute the encoder's activations in the backward pass: less memory, more time"
    )

    num_tokens: int | None = Field(default=None, ge=1, description="expert tokens N; empty: the plan's num_experts")
    num_experts: int | None = Field(default=None, ge=1, description="experts E; empty: the plan's num_experts")
    top_k: int = Field(default=1, ge=1, description="experts each token uses")
    expert_width: int = Field(default=64, ge=1, description="inner width of an expert's bottleneck")
    expert_tail: Literal["own", "shared"] = Field(
        default="own",
        description="own: each expert its whole bottleneck; shared: own way down, one way up for all (public code)",
    )
    balance_weight: float = Field(default=0.01, ge=0, description="weight of CV^2(importance) + CV^2(load) of experts")
    token_balance_weight: float = Field(default=0.01, ge=0, description="weight of CV^2 of the tokens' use")
    high_res_features: bool = Field(
        default=True, description="add early encoder features and the image embedding to the experts' mask features"
    )
    draw_prompts: bool = Field(
        default=False,
        description="also give the decoder boxes and clicks as maps; a box begins as the ellipse inscribed into it",
    )
    region_refinement: bool = Field(
        default=False, description="tiny with stem conv: draw the answer's region again at a resolution of its own"
    )
    region_size: int = Field(default=64, ge=16, multiple_of=2, description="side of a region's grid")
    region_margin: float = Field(default=1.25, ge=1, description="side of a region over that of its box")
    region_contrast: bool = Field(
        default=False, description="a region is also shown at a contrast of its own: organs of few grey levels"
    )
    isolate_experts: bool = Field(
        default=False, description="hide expert tokens from SAM's own tokens and image, whose masks stay plain SAM's"
    )
    train_encoder: bool = Field(default=False, description="train the image encoder (features are then not cached)")
    train_decoder: bool = Field(default=False, description="train SAM's prompt encoder and mask decoder (section 4.2)")

    ppt: Literal["auto", "on", "off"] = Field(
        default="auto", description="progressive prompt tokenization; auto: for datasets of one class"
    )
    ppt_queries: int = Field(default=2, ge=1, description="learned queries Q of the progressive prompt tokenization")
    self_prompt_share: float = Field(
        default=0.5, ge=0, le=1, description="with PPT: fraction of training queries that come without point and box"
    )
    text: Literal["none", "learned", "clip"] = Field(
        default="learned", description="text prompts: a learned embedding per class name, or CLIP's of its text"
    )
    clip_path: str | None = Field(default=None, description="folder of a CLIP model in transformers' format")
    clip_width: int = Field(default=512, ge=1, description="channels of CLIP's text features (ViT-B: 512)")

    prompt_mix: dict[FirstPrompt, float] = Field(
        default={"box": 0.4, "point": 0.3, "text": 0.3}, description="probability of each first prompt in training"
    )
    prior_mix: dict[Prior, float] = Field(
        default={"mask": 0.4, "text": 0.3, "none": 0.3},
        description="foreground prior of self-prompted queries in training (section 3.4); prediction uses none",
    )
    correction_rounds: int = Field(default=4, ge=0, description="clicks on the error after the first prompt")
    correction_share: float = Field(default=1.0, ge=0, le=1, description="fraction of the steps that have these rounds")
    loss: Literal["paper", "code"] = Field(default="paper", description="paper: Dice; code: 20 focal + Dice")
    losses: dict[LossName, float] | None = Field(default=None, description="weights that replace those of `loss`")

    @field_validator("prompt_mix", "prior_mix", "losses")
    @classmethod
    def _weights(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return value
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("weights must not be negative and not all zero")
        return value

    @model_validator(mode="after")
    def _together(self) -> SegmoteConfig:
        if self.text == "clip" and self.clip_path is None:
            raise ValueError("text: clip needs clip_path, the folder of a CLIP model")
        if self.num_experts is not None and self.top_k > self.num_experts:
            raise ValueError(f"top_k {self.top_k} is more than num_experts {self.num_experts}")
        if self.stem == "conv" and (self.backbone != "tiny" or self.patch_size != 16):
            raise ValueError("stem: conv is for backbone: tiny with patch_size: 16")
        for key in ("region_refinement", "encoder_size"):
            if getattr(self, key) and self.stem != "conv":
                raise ValueError(f"{key} needs stem: conv")
        if self.region_contrast and not self.region_refinement:
            raise ValueError("region_contrast needs region_refinement: true")
        if self.stem == "conv" and not self.high_res_features:
            raise ValueError("stem: conv needs high_res_features: true")
        if self.backbone == "tiny":
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
            if self.decoder_width % 32:
                raise ValueError(f"decoder_width {self.decoder_width} is not a multiple of 32")
            if self.early_block is not None and self.early_block >= self.depth:
                raise ValueError(f"early_block {self.early_block} of an encoder with {self.depth} blocks, from 0")
        return self

    @property
    def backbone_weights(self) -> str | None:
        """Name of the added model that supplies the weights; None for random ones."""
        if self.weights == "random" or (self.backbone == "tiny" and self.weights is None):
            return None
        return self.weights or self.backbone

    @property
    def loss_weights(self) -> Mapping[LossName, float]:
        """Weight by loss name."""
        return self.losses if self.losses is not None else LOSS_PRESETS[self.loss]
