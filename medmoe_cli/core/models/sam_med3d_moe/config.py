"""SAM-Med3D-MoE's own section of a preset; free of torch, so that presets are read and checked in no time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from medmoe_cli.core.config.sections import Section

Role = Literal["general", "expert", "merged"]
LossName = Literal["dice", "bce", "focal"]
FirstPrompt = Literal["point", "box"]

# What experts must have in common with their general model: these keys shape the encoder, the prompts and a decoder.
ARCHITECTURE_KEYS = (
    "backbone",
    "axes",
    "width",
    "depth",
    "heads",
    "patch_size",
    "decoder_width",
    "decoder_mlp",
    "stem",
    "stem_channels",
    "draw_prompts",
)


class ExpertEntry(Section):
    """One expert of a merged model.

    Attributes:
        name: as given to merge-experts.
        classes: names of its classes, one query token each, in its own label order.
    """

    name: str = Field(min_length=1)
    classes: tuple[str, ...] = Field(min_length=1)


class SamMed3dMoeConfig(Section):
    """Values of the `model` section for `method: sam-med3d-moe`."""

    role: Role = Field(
        default="general",
        description="general: the whole model; expert: a copy of a general model's decoder for one task; merged: a "
        "general model with experts and a gate, which merge-experts makes",
    )
    general: str | None = Field(
        default=None, description="role expert: name or path of the trained general model, or of the added sam-med3d"
    )
    experts: tuple[ExpertEntry, ...] = Field(
        default=(), description="role merged: the experts in order, each with its name and its classes"
    )

    backbone: Literal["tiny", "sam-med3d"] = Field(default="sam-med3d", description="size of encoder and decoder")
    weights: str | None = Field(
        default=None,
        description="role general: weights to start from; empty for the added model called like the backbone, random "
        "for tiny; the name of another added model or of a trained one; or 'random'",
    )
    axes: Literal["auto", "plan", "published"] = Field(
        default="auto",
        description="published: show volumes as the public weights know them, right-anterior-superior with x first; "
        "plan: as they are; auto: published for sam-med3d",
    )
    width: int = Field(default=192, ge=16, description="tiny: width of the image encoder")
    depth: int = Field(default=6, ge=1, description="tiny: number of encoder blocks, all of them global")
    heads: int = Field(default=3, ge=1, description="tiny: attention heads of the encoder")
    patch_size: Literal[8, 16] = Field(default=8, description="tiny: side of a patch, voxels")
    decoder_width: int = Field(default=192, ge=48, description="tiny: width of prompts and mask decoder")
    decoder_mlp: int = Field(default=512, ge=1, description="tiny: inner width of the mask decoder's MLPs")
    stem: Literal["patch", "conv"] = Field(
        default="patch", description="tiny: SAM's patches, or convolutions whose finer maps also join the mask features"
    )
    stem_channels: int = Field(
        default=8, ge=1, description="tiny with stem conv: channels of its finest map, doubled with every stride"
    )
    draw_prompts: bool = Field(
        default=False, description="tiny with stem conv: also give the decoder boxes, clicks and masks as maps"
    )
    checkpoint_encoder: bool = Field(
        default=False, description="recompute the encoder's activations in the backward pass: less memory, more time"
    )

    tau: float = Field(
        default=0.5, ge=0, le=1, description="an expert joins when its probability exceeds this (paper 2.3)"
    )
    fuse: Literal["logits", "probabilities"] = Field(default="logits", description="what of two decoders is fused")
    fusion: Literal["weighted", "average", "softmax"] = Field(
        default="weighted",
        description="weighted: by the gate's probability; average, softmax: the paper's ablations (table 2)",
    )
    gate_width: int | None = Field(
        default=None, ge=1, description="inner width of the gate's two fully connected layers; empty: the decoder's"
    )
    gate_heads: int = Field(default=8, ge=1, description="attention heads of the gate")
    gate_mlp: int = Field(default=2048, ge=1, description="inner width of the gate's MLP")
    gate_pooling: Literal["mean", "max"] = Field(
        default="mean", description="how image tokens become one vector before the fully connected layers"
    )
    gate_activation: Literal["softmax", "sigmoid"] = Field(
        default="softmax",
        description="softmax: experts compete with each other; sigmoid: each with the general decoder alone",
    )
    gate_freeze_after: int | None = Field(
        default=None,
        ge=1,
        description="decide by the first so many prompts (a box counts as one) and no previous mask, so that later "
        "clicks do not change the expert; empty: by all",
    )

    prompt_mix: dict[FirstPrompt, float] = Field(
        default={"point": 0.5, "box": 0.5}, description="probability of each first prompt in training"
    )
    prompt_free_share: float = Field(
        default=0.3, ge=0, le=1, description="role expert: fraction of training queries that come without a prompt"
    )
    correction_rounds: int = Field(default=5, ge=0, description="clicks on the error after the first prompt")
    correction_share: float = Field(default=1.0, ge=0, le=1, description="fraction of the steps that have these rounds")
    losses: dict[LossName, float] = Field(default={"dice": 1.0, "bce": 1.0}, description="weight of each mask loss")
    owner_weight: float = Field(
        default=1.0, gt=0, description="role merged: weight of the cross-entropy on which expert owns a sample"
    )
    expert_learning_rate: float = Field(default=1e-4, gt=0, description="role expert: learning rate of its decoder")
    gate_learning_rate: float = Field(
        default=1e-4, gt=0, description="role merged: learning rate of the gate (paper 1e-6, too small for a fresh one)"
    )

    @field_validator("prompt_mix", "losses")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("weights must not be negative and not all zero")
        return value

    @model_validator(mode="after")
    def _together(self) -> SamMed3dMoeConfig:
        if self.role == "expert" and self.general is None:
            raise ValueError("role: expert needs general, the model whose decoder it starts from")
        if (self.role == "merged") != bool(self.experts):
            raise ValueError("role: merged and experts go together")
        names = [entry.name for entry in self.experts]
        if len(set(names)) < len(names):
            raise ValueError("experts need different names")
        if self.stem == "conv" and self.backbone != "tiny":
            raise ValueError("stem: conv is for backbone: tiny")
        if self.draw_prompts and self.stem != "conv":
            raise ValueError("draw_prompts needs stem: conv")
        if self.backbone == "tiny":
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
            if self.decoder_width % 48:
                raise ValueError(f"decoder_width {self.decoder_width} is not a multiple of 48")
        if self.neck_width // 2 % self.gate_heads:
            raise ValueError(f"gate_heads {self.gate_heads} do not divide {self.neck_width // 2}")
        return self

    @property
    def neck_width(self) -> int:
        """Channels of embedding, prompts and decoders."""
        return 384 if self.backbone == "sam-med3d" else self.decoder_width

    @property
    def published_axes(self) -> bool:
        """Volumes are turned to the orientation of the public weights."""
        return self.backbone == "sam-med3d" if self.axes == "auto" else self.axes == "published"

    @property
    def backbone_weights(self) -> str | None:
        """Name of the model that supplies the weights: an expert's general one; None for random ones."""
        if self.role == "expert":
            return self.general
        if self.role == "merged" or self.weights == "random" or (self.backbone == "tiny" and self.weights is None):
            return None
        return self.weights or self.backbone
