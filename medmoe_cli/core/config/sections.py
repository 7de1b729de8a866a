"""The typed sections of a preset that every method shares; a method adds its own `model` section."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """Base of all configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PlanConfig(Section):
    """Values that override what the planner would choose; None leaves the choice to the planner."""

    input_size: int | None = Field(
        default=None, ge=32, le=2048, description="side of the network's square input, pixels"
    )
    max_input_size: int | None = Field(
        default=None, ge=32, le=2048, description="the planner's own choice of input_size is at most this (2D methods)"
    )
    slice_axis: Literal["auto", "x", "y", "z"] = "auto"
    normalization: Literal["auto", "ct", "percentile", "rgb", "zscore", "none"] = "auto"
    window: tuple[float, float] | None = Field(
        default=None, description="low and high of 'ct' channels; empty: percentiles of the dataset's foreground"
    )
    mirror: Literal["auto", "on", "off"] = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    num_experts: int | None = Field(default=None, ge=1)
    spacing_mm: tuple[float, float, float] | None = None
    context_slices: int = Field(
        default=0, ge=0, le=8, description="neighbouring slices on each side that become input channels (2.5D)"
    )
    member_channels: dict[str, tuple[int, ...]] = Field(
        default_factory=dict,
        description="collections: by member, positions of the image's channels that the network sees, in its order",
    )

    @field_validator("window")
    @classmethod
    def _window_has_a_width(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not window[0] < window[1]:
            raise ValueError(f"low {window[0]:g} must be less than high {window[1]:g}")
        return window


class TrainConfig(Section):
    """The engine's values."""

    epochs: int = Field(default=15, ge=1)
    steps: int | None = Field(
        default=None, ge=1, description="stop after this many optimiser steps, whatever the epochs"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "multistep", "poly", "cosine"] = "constant"
    milestones: tuple[int, ...] = Field(default=(), description="epochs after which multistep multiplies the rate")
    gamma: float = Field(default=0.5, gt=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    gradient_clip: float | None = Field(default=1.0, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of an average of the weights; None: off")
    queries_per_image: int = Field(
        default=2, ge=1, description="instances asked for per image and step (prompted task)"
    )
    box_jitter: float = Field(
        default=0.1,
        ge=0,
        lt=0.5,
        description="most that an edge of a training box moves, as a share of the box's side: a model that saw tight "
        "boxes alone follows the box where the image says otherwise",
    )
    empty_slices: float | None = Field(
        default=None,
        ge=0,
        description="slices without a label to train on, as a fraction of those with one; empty: all of them where "
        "label maps are learned, none where masks are prompted",
    )
    balance: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="collections: 0 draws members by their size and slices alike, 1 draws members equally often and "
        "the classes of each too",
    )
    validation_every: int = Field(default=1, ge=1, description="epochs between validations")
    validation_limit: int | None = Field(
        default=None, ge=1, description="validation samples during training; None: all"
    )
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    keep_checkpoints: int = Field(default=2, ge=2)
    cache_features: bool = Field(
        default=True,
        description="keep the features of a frozen encoder on disk: training is faster and augmentation is off",
    )
    workers: int = Field(default=2, ge=0)
    seed: int = 0
    precision: Literal["auto", "32", "bf16", "16"] = "auto"


class AugmentConfig(Section):
    """batchgenerators' transforms; probabilities per sample. All off when features are cached."""

    enabled: bool = True
    rotation_degrees: float = Field(default=15.0, ge=0, le=180)
    rotation_probability: float = Field(default=0.3, ge=0, le=1)
    scale: tuple[float, float] = (0.85, 1.15)
    scale_probability: float = Field(default=0.3, ge=0, le=1)
    elastic_probability: float = Field(default=0.0, ge=0, le=1)
    shift: float = Field(default=0.1, ge=0, lt=0.5, description="most that is moved along an axis, share of its length")
    shift_probability: float = Field(default=0.0, ge=0, le=1)
    mirror_probability: float = Field(default=0.5, ge=0, le=1)
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = Field(default=0.2, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0)
    brightness_probability: float = Field(default=0.2, ge=0, le=1)
    contrast: tuple[float, float] = (0.8, 1.2)
    contrast_probability: float = Field(default=0.2, ge=0, le=1)
    noise_variance: tuple[float, float] = (0.0, 0.01)
    noise_probability: float = Field(default=0.1, ge=0, le=1)
    blur_probability: float = Field(default=0.1, ge=0, le=1)


class PredictConfig(Section):
    """Inference values stored with a model."""

    batch_size: int = Field(default=4, ge=1, description="slices encoded together")
    queries_per_batch: int = Field(default=32, ge=1, description="prompt sets decoded together")
    threshold: float = Field(default=0.5, gt=0, lt=1)
    presence: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="a slice's mask of a name is empty where the model finds it less likely present than this (methods "
        "that say so); 0: never",
    )
    mirror: bool = Field(
        default=False,
        description="average over mirrored images, along the axes that training mirrored (automatic methods)",
    )
    postprocess: bool = Field(
        default=True,
        description="apply the rules that were learned from the training labels, such as largest component",
    )
