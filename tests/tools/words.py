"""A segmenter of open vocabulary that needs no training: a word is a shade of grey, and a structure is what has it.

It counts its vision passes, keeps what it was made to understand, and finds a word present where at least a twentieth
of the picture has its shade. Words it has never heard of are found nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PredictConfig, Section
from medmoe_cli.core.nn.moe.routers import choose_experts
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel
from tests.tools.oracle import oracle_plan

CARD = Card(
    name="words", title="Words", paper="", dims=2, prompts=("text",), licence="MIT", summary="for tests"
)  # fmt: skip
SHADES = {"liver": 0.3, "left kidney": 0.6, "spleen": 0.62, "gallstone": 0.9}
_WIDTH = 0.1


class Words(Segmenter):
    """Answers with the pixels that have the word's shade; the nearer, the more probable."""

    card = CARD
    scores_are_presence = True

    def __init__(self, classes: Sequence[str], *, open_vocabulary: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(100.0))
        self.classes, self.open_vocabulary = tuple(classes), open_vocabulary
        self.extra: tuple[str, ...] = ()
        self.passes = self.decoded = 0

    def concepts(self, names: Sequence[str]) -> None:
        self.extra = tuple(names)

    def encode(self, images: Tensor) -> Features:
        self.passes += images.shape[0]
        return Features(maps={"image": images[:, :1]}, input_size=tuple(images.shape[2:]))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        self.decoded += prompts.num_queries
        words = (*self.classes, *self.extra)
        shades = torch.tensor([SHADES.get(words[index], 7.0) for index in prompts.class_index.tolist()])
        away = (features.maps["image"] - shades[:, None, None, None]).abs()
        presence = ((away < _WIDTH).flatten(1).float().mean(1) > 0.05).float() * 0.9 + 0.05
        logits = self.scale * (_WIDTH - away)
        kinds = (shades * 10).long() % 3
        routing = choose_experts(torch.eye(3)[kinds].repeat_interleave(2, dim=0), num_active=1)
        return Output(logits=logits, scores=presence, routing={"layer1": routing})

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(name="all", task="prompted", trainable=("scale",), prompt_mix={"text": 1.0}),)

    @property
    def mask_size(self) -> tuple[int, ...]:
        return (16, 16)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup(name="all", total=1, trainable=1),)

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)


def words_plan(*names: str, prompts: dict[str, str] | None = None) -> Plan:
    """A plan of these classes, each asked for by its name unless `prompts` says otherwise."""
    plan = oracle_plan(labels={name: value for value, name in enumerate(names, start=1)} or None)
    if not names:
        return plan.model_copy(update={"labels": {}, "class_prompts": {}, "binary": False})
    return plan.model_copy(update={"class_prompts": {**plan.class_prompts, **(prompts or {})}})


def words_model(
    plan: Plan, *, open_vocabulary: bool = True, presence: float = 0.5, seed: int = 0, source: str = "words"
) -> LoadedModel:
    """The segmenter as a loaded model."""
    asked_by = [plan.class_prompts[name] for name in plan.class_names]
    return LoadedModel(
        segmenter=Words(asked_by, open_vocabulary=open_vocabulary),
        plan=plan,
        card=CARD,
        config=Section(),
        predict=PredictConfig(presence=presence),
        class_names=plan.class_names,
        source=Path(source),
        sha256=f"{seed:064d}",
    )


def shaded_scan() -> NDArray[np.float32]:
    """40x32x6: 'liver' in slices 0..3, 'left kidney' (whose shade is nearly the spleen's) in 2..4, nothing in 5."""
    volume = np.zeros((40, 32, 6), np.float32)
    volume[4:16, 6:22, :4] = SHADES["liver"]
    volume[24:34, 8:24, 2:5] = SHADES["left kidney"]
    return volume
