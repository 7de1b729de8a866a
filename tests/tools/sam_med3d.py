"""A small SAM-Med3D-MoE in each role, plans for it, and queries of every prompt kind in 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.segmenter import Output, Prompts

SIDE = 32
SMALL = {
    "backbone": "tiny",
    "width": 48,
    "depth": 2,
    "heads": 3,
    "decoder_width": 48,
    "decoder_mlp": 64,
    "stem_channels": 4,
    "gate_mlp": 64,
    "gate_heads": 4,
}
CONV = {"stem": "conv", "draw_prompts": True}
EXPERTS = [{"name": "first", "classes": ["organ 2"]}, {"name": "second", "classes": ["organ 3", "organ 1"]}]


def volume_plan(*, labels: Sequence[str] = ("organ 1", "organ 2", "organ 3", "organ 4"), side: int = SIDE) -> Plan:
    """A plan of a made-up 3D dataset."""
    return Plan(
        dataset="made-up",
        method="sam-med3d-moe",
        preset="sam-med3d-moe-tiny",
        dims=3,
        slice_axis=2,
        input_size=side,
        spacing_mm=(1.5, 1.5, 1.5),
        channels=(ChannelPlan(name="MR", normalization="none"),),
        labels={name: index for index, name in enumerate(labels, start=1)},
        class_prompts={},
        binary=len(labels) == 1,
        mirror_axes=(),
        batch_size=2,
        num_experts=4,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def small_model(*, plan: Plan | None = None, seed: int = 0, **keys: object) -> SamMed3dMoe:
    """A model of a hundred thousand parameters, the same at every call."""
    torch.manual_seed(seed)
    return SamMed3dMoe.build(SamMed3dMoeConfig.model_validate({**SMALL, **keys}), plan or volume_plan())


def small_expert(general: SamMed3dMoe, *, plan: Plan | None = None, seed: int = 1, **keys: object) -> SamMed3dMoe:
    """An expert that starts from a general model."""
    torch.manual_seed(seed)
    values = {**general.config.model_dump(), "role": "expert", "general": "the general one", **keys}
    return SamMed3dMoe.build(
        SamMed3dMoeConfig.model_validate(values), plan or volume_plan(), backbone=general.state_dict()
    )


def small_merged(*, seed: int = 0, experts: Sequence[dict[str, object]] = EXPERTS, **keys: object) -> SamMed3dMoe:
    """A merged model with experts that differ from the general decoder and from each other."""
    return small_model(seed=seed, role="merged", experts=experts, **keys)


def volumes(count: int = 2, *, side: int = SIDE, seed: int = 11) -> Tensor:
    """Different volumes, smooth enough that places differ."""
    noise = torch.randn(count, 1, side, side, side, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)
    return smooth / smooth.std()


def mixed_volume_prompts(*, names: bool, nothing: bool = False, mask_side: int = 16) -> tuple[Prompts, Tensor]:
    """Queries of every kind in one batch, and the volume (0 or 1) of each.

    In order: two points; a box; a point with the previous mask; a box and an outside click; a mask alone; a point on
    the other volume; with `names` a class name, a class name with a point; with `nothing` a query without anything.
    """
    generator = torch.Generator().manual_seed(12)
    queries = 6 + 2 * names + nothing
    labels = torch.full((queries, 3), -1)
    labels[0] = torch.tensor([1, 0, -1])
    labels[2] = torch.tensor([1, -1, -1])
    labels[3] = torch.tensor([0, -1, -1])
    labels[5] = torch.tensor([1, 1, 1])
    boxes = torch.full((queries, 6), torch.nan)
    boxes[1] = torch.tensor([3.0, 5.0, 2.0, 20.0, 16.0, 30.0])
    boxes[3] = torch.tensor([10.0, 2.0, 7.0, 29.0, 25.0, 21.0])
    has_mask = torch.zeros(queries, dtype=torch.bool)
    has_mask[[2, 4]] = True
    class_index = torch.full((queries,), -1)
    if names:
        class_index[6:8] = torch.tensor([1, 2])
        labels[7] = torch.tensor([1, -1, -1])
    masks = 4 * torch.randn(queries, 1, *(mask_side,) * 3, generator=generator)
    prompts = Prompts(
        points=torch.rand(queries, 3, 3, generator=generator) * 30,
        point_labels=labels,
        boxes=boxes,
        masks=torch.where(has_mask[:, None, None, None, None], masks, torch.zeros_like(masks)),
        has_mask=has_mask,
        class_index=class_index,
    )
    return prompts, torch.tensor([0, 0, 1, 0, 1, 1, 0, 1, 0])[:queries]


def rows_of(prompts: Prompts, rows: Tensor) -> Prompts:
    """Some of the queries."""
    return Prompts(
        points=prompts.points[rows],
        point_labels=prompts.point_labels[rows],
        boxes=prompts.boxes[rows],
        masks=None if prompts.masks is None else prompts.masks[rows],
        has_mask=prompts.has_mask[rows],
        class_index=prompts.class_index[rows],
    )


def point_prompts(points: Tensor, *, labels: Tensor | None = None) -> Prompts:
    """Queries (Q, N, 3) of clicks alone, all inside unless said otherwise."""
    queries = len(points)
    return Prompts(
        points=points,
        point_labels=torch.ones(points.shape[:2], dtype=torch.long) if labels is None else labels,
        boxes=torch.full((queries, 6), torch.nan),
        masks=None,
        has_mask=torch.zeros(queries, dtype=torch.bool),
        class_index=torch.full((queries,), -1),
    )


@torch.no_grad()
def answered(model: SamMed3dMoe, images: Tensor, prompts: Prompts, image_Q: Tensor) -> Output:
    """What the model in evaluation says."""
    model.eval()
    return model.decode(model.encode(images).take(image_Q), prompts)
