"""A two-layer convolutional Segmenter and a source of discs, to test the engine without any method."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.imaging.sample import Sample
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

CARD = Card(
    name="tiny-test",
    title="Tiny",
    paper="none",
    dims=2,
    prompts=("point", "box", "text", "mask", "none"),
    licence="MIT",
    summary="a test double",
)
PROMPTED = Stage(
    name="all",
    task="prompted",
    trainable=("encoder.", "decoder.", "names."),
    prompt_mix={"box": 0.4, "point": 0.3, "text": 0.1, "none": 0.2},
    prior_mix={"mask": 0.4, "text": 0.3, "none": 0.3},
    correction_rounds=1,
    losses={"dice": 1.0, "focal": 1.0, "score": 0.1},
)
DECODER_ONLY = Stage(
    name="decoder",
    task="prompted",
    trainable=("decoder.", "names."),
    prompt_mix={"box": 1.0},
    correction_rounds=1,
    losses={"dice": 1.0},
)
AUTOMATIC = Stage(
    name="automatic",
    task="automatic",
    trainable=("encoder.", "decoder."),
    losses={"dice": 0.8, "cross_entropy": 0.2},
)
WIDTH = 6


class TinySegmenter(Segmenter):
    """Draws the prompt as an extra plane and convolves; uses dropout and noise, so that it needs the step's seed."""

    card = CARD

    def __init__(self, *, stages: tuple[Stage, ...] = (PROMPTED,), num_classes: int = 2, size: int = 32) -> None:
        super().__init__()
        automatic = stages[0].task == "automatic"
        self.encoder = nn.Sequential(nn.Conv2d(1, WIDTH, 3, padding=1), nn.GELU())
        self.decoder = nn.Sequential(
            nn.Conv2d(WIDTH + 3, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Conv2d(WIDTH, num_classes + 1 if automatic else 1, 3, padding=1),
        )
        self.names = nn.Embedding(num_classes, WIDTH)
        self._stages, self._size, self._automatic = stages, size, automatic

    def encode(self, images: Tensor) -> Features:
        return Features(maps={"embedding": self.encoder(images)}, input_size=tuple(images.shape[-2:]))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        embedding = features.maps["embedding"].float()
        size = embedding.shape[-1]
        planes = torch.stack([self._box(prompts, size), self._points(prompts, size), self._mask(prompts, size)], dim=1)
        known = prompts.class_index.clamp(min=0)
        named = (self.names(known) * (prompts.class_index >= 0)[:, None])[:, :, None, None]
        if self.training:
            embedding = embedding + 0.01 * torch.randn_like(embedding)
        logits = self.decoder(torch.cat([embedding + named, planes], dim=1))
        if self._automatic:
            return Output(logits=logits)
        scores = logits.flatten(1).mean(1).sigmoid()
        load = torch.tensor([float(len(known)), 0.0])
        routing = Routing(
            gates=torch.ones(len(known), 1),
            indices=torch.zeros(len(known), 1, dtype=torch.long),
            logits=torch.zeros(len(known), 2),
            probabilities=torch.full((len(known), 2), 0.5),
            load=load,
        )
        return Output(
            logits=logits,
            low_res_logits=F.interpolate(logits, self.mask_size, mode="bilinear"),
            scores=scores,
            aux_losses={"size": 0.001 * logits.pow(2).mean()},
            routing={"layer1": routing},
        )

    def stages(self) -> tuple[Stage, ...]:
        return self._stages

    @property
    def mask_size(self) -> tuple[int, ...]:
        return self._size // 4, self._size // 4

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return tuple(
            ParameterGroup(
                name=name,
                total=sum(p.numel() for p in part.parameters()),
                trainable=sum(p.numel() for p in part.parameters() if p.requires_grad),
            )
            for name, part in (("encoder", self.encoder), ("decoder", self.decoder), ("names", self.names))
        )

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)

    def _box(self, prompts: Prompts, size: int) -> Tensor:
        centres = torch.arange(size) + 0.5
        x0, y0, x1, y1 = (prompts.boxes[:, place, None, None] for place in range(4))
        inside_x = (centres[None, None, :] > x0) & (centres[None, None, :] < x1)
        inside_y = (centres[None, :, None] > y0) & (centres[None, :, None] < y1)
        return (inside_x & inside_y).float()  # a NaN box compares False everywhere

    def _points(self, prompts: Prompts, size: int) -> Tensor:
        centres = torch.arange(size) + 0.5
        dx = centres[None, None, None, :] - prompts.points[:, :, 0, None, None]
        dy = centres[None, None, :, None] - prompts.points[:, :, 1, None, None]
        sign = prompts.point_labels.float() * 2 - 1
        sign = torch.where(prompts.point_labels < 0, torch.zeros_like(sign), sign)
        return (torch.exp(-(dx**2 + dy**2) / 8) * sign[:, :, None, None]).sum(1)

    def _mask(self, prompts: Prompts, size: int) -> Tensor:
        if prompts.masks is None:
            return torch.zeros(prompts.num_queries, size, size)
        grown = F.interpolate(prompts.masks, (size, size), mode="bilinear")[:, 0]
        return grown.sigmoid() * prompts.has_mask[:, None, None]


class DiscSource:
    """Noisy discs of two classes; nothing is stored, so any number of samples costs nothing."""

    def __init__(
        self,
        num_samples: int,
        *,
        size: int = 32,
        classes: int = 2,
        seed: int = 0,
        prefix: str = "case",
        bad: str | None = None,
        deadly: str | None = None,
        slow_s: float = 0.0,
        touch: Path | None = None,
    ) -> None:
        self.num_samples, self.size, self.classes_, self.seed = num_samples, size, classes, seed
        self.prefix, self.bad, self.deadly, self.slow_s, self.touch = prefix, bad, deadly, slow_s, touch

    def __len__(self) -> int:
        return self.num_samples

    def key(self, index: int) -> str:
        return f"{self.prefix}_{index // 2:03d}:{index % 2}"

    def classes(self, index: int) -> tuple[int, ...]:
        return tuple(range(1, self.classes_ + 1))

    def load(self, index: int, *, seed: int | None) -> Sample:
        if self.deadly == self.key(index) and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.touch is not None:
            self.touch.touch()
        time.sleep(self.slow_s)
        rng = generator(self.seed, "disc", index)
        rows, columns = np.mgrid[: self.size, : self.size]
        label = np.zeros((self.size, self.size), np.uint8)
        for value in range(1, self.classes_ + 1):
            row, column = rng.uniform(self.size * 0.25, self.size * 0.75, 2)
            label[(rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(3, 6) ** 2] = value
        image = (label / self.classes_ + rng.normal(0, 0.05, label.shape)).astype(np.float32)
        if seed is not None:
            change = generator(seed)
            if change.random() < 0.5:
                image, label = image[:, ::-1].copy(), label[:, ::-1].copy()
            image = (image * change.uniform(0.9, 1.1)).astype(np.float32)
        valid = np.ones(label.shape, bool)
        valid[-4:] = False
        if self.bad == self.key(index):
            image[3, 3] = np.nan
        return Sample(
            image=image[None], label=label, valid=valid, case_id=self.key(index).split(":")[0], index=index % 2
        )
