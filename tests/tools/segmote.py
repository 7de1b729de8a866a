"""A small SegMoTE, plans for it, and queries of every prompt kind."""

from __future__ import annotations

import torch
from torch import Tensor

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.nn.segmenter import Prompts

SIZE = 64
SMALL = {"backbone": "tiny", "width": 48, "depth": 2, "heads": 3, "decoder_width": 32}


def small_plan(*, size: int = SIZE, channels: int = 1, labels: int = 3, num_experts: int = 4) -> Plan:
    """A plan of a made-up dataset."""
    return Plan(
        dataset="made-up",
        method="segmote",
        preset="segmote-tiny",
        dims=2,
        slice_axis=2,
        input_size=size,
        spacing_mm=None,
        channels=tuple(ChannelPlan(name=f"channel {index}", normalization="none") for index in range(channels)),
        labels={f"organ {index}": index for index in range(1, labels + 1)},
        class_prompts={"organ 1": "the first organ"},
        binary=labels == 1,
        mirror_axes=(),
        batch_size=2,
        num_experts=num_experts,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def small_segmote(*, plan: Plan | None = None, seed: int = 0, **keys: object) -> Segmote:
    """A SegMoTE of a hundred thousand parameters, the same at every call."""
    torch.manual_seed(seed)
    return Segmote.build(SegmoteConfig.model_validate({**SMALL, **keys}), plan or small_plan())


def small_images(count: int = 2, *, channels: int = 1, size: int = SIZE) -> Tensor:
    """Different images in [0, 1]."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(11))


def mixed_prompts(*, mask_size: tuple[int, ...] = (16, 16), text: bool = True) -> tuple[Prompts, Tensor]:
    """Queries of every kind in one batch, and the image (0 or 1) of each.

    In order: two points; a box; a class name; nothing; a point with the previous mask; a box and a click; a mask alone;
    nothing on the other image; a class name with a mask.
    """
    generator = torch.Generator().manual_seed(12)
    queries = 9
    labels = torch.full((queries, 3), -1)
    labels[0] = torch.tensor([1, 0, -1])
    labels[4] = torch.tensor([1, -1, -1])
    labels[5] = torch.tensor([0, -1, -1])
    boxes = torch.full((queries, 4), torch.nan)
    boxes[1] = torch.tensor([3.0, 5.0, 40.0, 33.0])
    boxes[5] = torch.tensor([10.0, 2.0, 60.0, 50.0])
    has_mask = torch.zeros(queries, dtype=torch.bool)
    has_mask[[4, 6, 8]] = True
    class_index = torch.full((queries,), -1)
    if text:
        class_index[[2, 8]] = torch.tensor([1, 2])
    masks = 4 * torch.randn(queries, 1, *mask_size, generator=generator)
    prompts = Prompts(
        points=torch.rand(queries, 3, 2, generator=generator) * 60,
        point_labels=labels,
        boxes=boxes,
        masks=torch.where(has_mask[:, None, None, None], masks, torch.zeros_like(masks)),
        has_mask=has_mask,
        class_index=class_index,
    )
    return prompts, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0])
