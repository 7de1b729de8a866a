"""Stored volumes with objects of known places, and a small 3D segmenter, for windows and their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.data.store import CaseRecord, Store, Writing
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

VOLUME_CARD = Card(
    name="tiny-3d",
    title="Tiny 3D",
    paper="none",
    dims=3,
    prompts=("point", "box", "text", "mask", "none"),
    licence="MIT",
    summary="a test double",
)
VOLUME_STAGE = Stage(
    name="all",
    task="prompted",
    trainable=("encoder.", "decoder.", "names.", "gate."),
    prompt_mix={"box": 0.4, "point": 0.3, "text": 0.3},
    correction_rounds=1,
    losses={"dice": 1.0, "bce": 1.0, "owner": 0.5},
)
GATE_STAGE = Stage(
    name="gate",
    task="prompted",
    trainable=("gate.",),
    prompt_mix={"box": 0.5, "point": 0.5},
    losses={"dice": 1.0, "owner": 1.0},
)
_WIDTH = 4


def write_volume(
    store: Store, case: str, shape: tuple[int, int, int], objects: Mapping[int, Sequence[Box]], *, seed: int = 0
) -> CaseRecord:
    """A stored volume of noise, brighter by its label value within the boxes."""
    label = np.zeros(shape, np.uint8)
    for value, boxes in objects.items():
        for box in boxes:
            label[tuple(slice(*part) for part in box)] = value
    image = np.random.default_rng(seed).normal(0, 0.2, (1, *shape)) + label
    writing = Writing(case=case, key="k", shape=(1, *image.shape), valid_shape=shape, spacing_mm=(1.5,) * 3)
    writing.add(image.astype(np.float32), label)
    return store.write(writing)


def balls(folder: Path, *, cases: int = 4, seed: int = 0) -> tuple[Store, dict[str, CaseRecord]]:
    """Volumes a little larger than a window of 16, each with a box of class 1 and one of class 2."""
    store, random = Store(folder=folder), np.random.default_rng(seed)
    records = {}
    for number in range(cases):
        (z, y, x), (v, w, u) = random.integers(2, 6, 3), random.integers(11, 14, 3)
        objects = {1: [((z, z + 5), (y, y + 6), (x, x + 4))], 2: [((v, v + 4), (w, w + 5), (u, u + 6))]}
        records[f"case_{number}"] = write_volume(store, f"case_{number}", (22, 20, 24), objects, seed=number)
    return store, records


class TinyVolumes(Segmenter):
    """A strided convolution encodes; the decoder draws the prompt into a plane; a gate of two guesses the owner."""

    card = VOLUME_CARD

    def __init__(self, *, stages: tuple[Stage, ...] = (VOLUME_STAGE,), num_classes: int = 2, size: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, _WIDTH, 3, stride=2, padding=1), nn.GELU())
        self.decoder = nn.Sequential(
            nn.Conv3d(_WIDTH + 3, 2 * _WIDTH, 3, padding=1), nn.GELU(), nn.Conv3d(2 * _WIDTH, 1, 3, padding=1)
        )
        self.names = nn.Embedding(num_classes, _WIDTH)
        self.gate = nn.Linear(_WIDTH, 2)
        self._stages, self._size = stages, size

    def encode(self, images: Tensor) -> Features:
        return Features(maps={"embedding": self.encoder(images)}, input_size=tuple(images.shape[-3:]))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        embedding = features.maps["embedding"].float()
        named = self.names(prompts.class_index.clamp(min=0)) * (prompts.class_index >= 0)[:, None]
        planes = [self._box(prompts), self._points(prompts), self._mask(prompts)]
        drawn = F.avg_pool3d(torch.stack(planes, dim=1), 2)
        small = self.decoder(torch.cat([embedding + named[:, :, None, None, None], drawn], dim=1))
        choice = self.gate(embedding.mean((2, 3, 4)))
        probabilities = choice.softmax(-1)
        routing = Routing(
            gates=probabilities.max(-1, keepdim=True).values,
            indices=choice.argmax(-1, keepdim=True),
            logits=choice,
            probabilities=probabilities,
            load=torch.bincount(choice.argmax(-1), minlength=2).float(),
        )
        logits = F.interpolate(small, (self._size,) * 3, mode="trilinear")
        return Output(logits=logits, low_res_logits=small, routing={"gate": routing})

    def stages(self) -> tuple[Stage, ...]:
        return self._stages

    @property
    def mask_size(self) -> tuple[int, ...]:
        return (self._size // 2,) * 3

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return tuple(
            ParameterGroup(
                name=name,
                total=sum(p.numel() for p in part.parameters()),
                trainable=sum(p.numel() for p in part.parameters() if p.requires_grad),
            )
            for name, part in self.named_children()
        )

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)

    def _centres(self) -> tuple[Tensor, Tensor, Tensor]:
        axis = torch.arange(self._size) + 0.5
        return axis[None, None, None, :], axis[None, None, :, None], axis[None, :, None, None]

    def _box(self, prompts: Prompts) -> Tensor:
        edges = [prompts.boxes[:, place, None, None, None] for place in range(6)]
        inside = [(c > low) & (c < high) for c, low, high in zip(self._centres(), edges[:3], edges[3:], strict=True)]
        return (inside[0] & inside[1] & inside[2]).float()  # a NaN box compares False everywhere

    def _points(self, prompts: Prompts) -> Tensor:
        sign = torch.where(prompts.point_labels < 0, 0.0, prompts.point_labels.float() * 2 - 1)
        total = torch.zeros(prompts.num_queries, *(self._size,) * 3)
        for number in range(prompts.points.shape[1]):
            places = [prompts.points[:, number, axis, None, None, None] for axis in range(3)]
            distance = sum((c - place) ** 2 for c, place in zip(self._centres(), places, strict=True))
            total = total + torch.exp(-distance / 8) * sign[:, number, None, None, None]
        return total

    def _mask(self, prompts: Prompts) -> Tensor:
        if prompts.masks is None:
            return torch.zeros(prompts.num_queries, *(self._size,) * 3)
        grown = F.interpolate(prompts.masks, (self._size,) * 3, mode="trilinear")[:, 0]
        return grown.sigmoid() * prompts.has_mask[:, None, None, None]
