"""Segmenter: the one interface that a method implements and the engine runs.

Shapes: B images, Q queries (one query asks for one mask of one image: a prompt set, a class or a concept),
C output channels, H W the network's input size (D H W in 3D).
`encode` never sees a prompt, so the engine can encode an image once for many queries and cache the result of a
frozen encoder. `decode` takes the features of the *queries'* images: `features.take(image_index_Q)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.weights import KeyReport

PromptKind = Literal["point", "box", "mask", "text", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What an encoder makes of images: tensors whose first axis is the image.

    Attributes:
        maps: by name, for instance 'embedding' (B, 256, h, w) and 'early' (B, 768, h, w).
        input_size: (H, W) or (D, H, W) of the input they were computed from.
    """

    maps: Mapping[str, Tensor]
    input_size: tuple[int, ...]

    def take(self, index_Q: Tensor) -> Features:
        """The features of the chosen images, one row per query."""
        return replace(self, maps={name: tensor[index_Q] for name, tensor in self.maps.items()})

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(next(iter(self.maps.values())).shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Prompts of Q queries, in input pixels (x, y) or voxels (x, y, z) with the pixel's centre at +0.5.

    A query that lacks a kind has label -1 points, a NaN box, a zero mask with `has_mask` False, class -1.
    A query with nothing at all asks the model to prompt itself.

    Attributes:
        points: (Q, N, 2|3).
        point_labels: (Q, N): 1 foreground, 0 background, -1 padding.
        boxes: (Q, 4|6): x0, y0, [z0,] x1, y1, [z1]; NaN rows where there is none.
        masks: (Q, 1, h, w) low-resolution logits on the decoder's mask grid, as a mask prompt or the previous round's.
        has_mask: (Q,) bool.
        class_index: (Q,) position in the model's list of class names, -1 where text is not used; from the number of
            classes on, position in the names given to `Segmenter.concepts`.
    """

    points: Tensor
    point_labels: Tensor
    boxes: Tensor
    masks: Tensor | None
    has_mask: Tensor
    class_index: Tensor

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return int(self.class_index.shape[0])

    @property
    def by_name_alone(self) -> Tensor:
        """(Q,) bool: queries that come with a class and nothing else."""
        return self._unmarked & (self.class_index >= 0)

    @property
    def self_prompted(self) -> Tensor:
        """(Q,) bool: queries that come with no point, box, mask or class."""
        return self._unmarked & (self.class_index < 0)

    @property
    def _unmarked(self) -> Tensor:
        no_points = (self.point_labels == -1).all(dim=1)
        no_box = self.boxes.isnan().any(dim=1)
        return no_points & no_box & ~self.has_mask

    def to(self, device: torch.device) -> Prompts:
        """Move all tensors."""
        return replace(
            self,
            points=self.points.to(device),
            point_labels=self.point_labels.to(device),
            boxes=self.boxes.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            has_mask=self.has_mask.to(device),
            class_index=self.class_index.to(device),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A part of the answers on a grid of its own, which a stage's mask losses look at.

    Attributes:
        logits: (Q, 1, R, R).
        regions: (Q, 4) x0, y0, x1, y1 in input pixels that the grid covers; None for the whole input.
        weights: (Q,) of each query's loss.
    """

    logits: Tensor
    regions: Tensor | None
    weights: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a decoder answers.

    Attributes:
        logits: (Q, C, H, W) at the input size. C = 1 for prompted (binary) methods; num_classes + 1 for automatic.
        low_res_logits: (Q, 1, h, w), fed back as the next round's mask prompt; None for automatic methods.
        scores: (Q,) predicted quality (IoU), or presence where the segmenter says `scores_are_presence`, in [0, 1];
            None when the method has none.
        score_logits: (Q,) what `scores` are the sigmoid of, for losses; None where they are no such thing.
        views: parts of the answers that mask losses look at in place of `logits`; () for `logits` itself.
        aux_losses: by name, scalars already weighted, to be added to the task's loss.
        routing: by place ('layer1'), what the routers decided.
        heat: (Q, h, w) attention of the routed token ('responsibility region'), None when the method has none.
    """

    logits: Tensor
    low_res_logits: Tensor | None = None
    scores: Tensor | None = None
    score_logits: Tensor | None = None
    views: tuple[View, ...] = ()
    aux_losses: Mapping[str, Tensor] = field(default_factory=dict)
    routing: Mapping[str, Routing] = field(default_factory=dict)
    heat: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a training: what trains, on what task, with which loss and schedule.

    Attributes:
        name: for logs.
        task: 'prompted' (binary masks of instances from simulated prompts) or 'automatic' (label maps).
        trainable: parameter-name prefixes that receive gradients; everything else is frozen and in eval mode.
        share: fraction of the run's epochs or steps.
        learning_rate: the stage's own, None for the training section's.
        prompt_mix: probability of each first prompt (prompted task).
        prior_mix: for self-prompted queries, the probability of a 'mask' or 'text' prior instead of 'none'.
        correction_rounds: clicks on the error region after the first prompt.
        correction_share: fraction of the steps that have these rounds.
        absent_share: share of an image's queries that ask by name for a class that is not there, answered by an empty
            mask (prompted task, text).
        losses: weight by loss name ('dice', 'batch_dice', 'focal', 'bce', 'choice', 'cross_entropy', 'score', 'owner',
            'presence').
    """

    name: str
    task: Literal["prompted", "automatic"]
    trainable: tuple[str, ...]
    share: float = 1.0
    learning_rate: float | None = None
    prompt_mix: Mapping[PromptKind, float] = field(default_factory=dict)
    prior_mix: Mapping[PromptKind, float] = field(default_factory=dict)
    correction_rounds: int = 0
    correction_share: float = 1.0
    absent_share: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroup:
    """A named part of a model for the parameter report: 'encoder', 'MoTE', 'PPT', ..."""

    name: str
    total: int
    trainable: int


class Segmenter(nn.Module, ABC):
    """A segmentation method.

    Implementations are built by `models.registry` from their typed config; they never read files and never move
    data between devices.

    Attributes:
        card: the method's.
        backbone_report: what became of the pretrained tensors; None at random weights.
        open_vocabulary: it may be asked for what it was not trained on, by any words.
        scores_are_presence: `Output.scores` say whether what is asked for is in the image, not how good the mask is.
        rivals: number of the first classes whose names compete: who asks for one of them asks for all, and a pixel's
            probability is that of the choice among them and none. 0: each name is answered by itself.
    """

    card: Card
    backbone_report: KeyReport | None = None
    open_vocabulary: bool = False
    scores_are_presence: bool = False
    rivals: int = 0

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Encode images (B, channels, H, W) in [0, 1] (or as the plan normalises them); no prompt is seen."""

    @abstractmethod
    def decode(self, features: Features, prompts: Prompts) -> Output:
        """Answer Q queries; `features` has one row per query."""

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The training's stages, in order."""

    @property
    def prompt_kinds(self) -> frozenset[PromptKind]:
        """Kinds of prompts that this instance was built to answer; a subset of the card's."""
        known: tuple[PromptKind, ...] = ("point", "box", "mask", "text", "none")
        return frozenset(kind for kind in known if kind in self.card.prompts)

    def promptable_classes(self) -> tuple[str, ...] | None:
        """Class names that may be asked for by name alone; None where that holds for all or for none."""
        return None

    def concepts(self, names: Sequence[str]) -> None:
        """Make words beyond the plan's classes askable, in place of those of an earlier call.

        `class_index` k of a prompt then means names[k - number of the plan's classes]. Only for segmenters of
        `open_vocabulary`.
        """
        raise TypeError(f"{self.card.title} knows the classes it was trained on, and no other words")

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """Feature maps worth a look, by what a reader would call them, (B, channels, [d,] h, w); none by default."""
        return {}

    @property
    @abstractmethod
    def mask_size(self) -> tuple[int, ...]:
        """Height and width of the low-resolution masks the decoder takes and makes."""

    @abstractmethod
    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Every parameter in exactly one named group, by the current requires_grad."""

    def encoder_is_frozen(self, stage: Stage) -> bool:
        """True when `stage` trains nothing that `encode` uses, so that features can be cached."""
        prefixes = self.encoder_prefixes()
        return not any(
            name.startswith(tuple(stage.trainable)) and name.startswith(prefixes) for name, _ in self.named_parameters()
        )

    @abstractmethod
    def encoder_prefixes(self) -> tuple[str, ...]:
        """Parameter-name prefixes of what `encode` uses."""
