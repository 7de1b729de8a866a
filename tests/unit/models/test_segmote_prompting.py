"""Prompts become segment_anything's tokens, whatever else is in the batch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.models.segmote.prompting import dense_prompts, sparse_prompts
from medmoe_cli.core.nn.sam2d import build_prompt_encoder
from medmoe_cli.core.nn.segmenter import Prompts

ENCODER = build_prompt_encoder(width=32, image_size=64, grid=4).requires_grad_(False)


@settings(max_examples=30)
@given(
    points=st.lists(st.tuples(st.floats(0.5, 63.5), st.floats(0.5, 63.5), st.booleans()), max_size=4),
    box=st.none() | st.tuples(*[st.integers(0, 63)] * 4),
    padding=st.integers(0, 3),
)
def test_tokens_are_sams(
    points: list[tuple[float, float, bool]], box: tuple[int, int, int, int] | None, padding: int
) -> None:
    coordinates = torch.tensor([point[:2] for point in points] + [(5.0, 5.0)] * padding).reshape(1, -1, 2)
    labels = torch.tensor([int(point[2]) for point in points] + [-1] * padding, dtype=torch.long).reshape(1, -1)
    edges = torch.full((1, 4), torch.nan)
    indices = None
    if box is not None:
        x0, x1, y0, y1 = *sorted(box[:2]), *sorted(box[2:])
        indices = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32)
        edges = indices + torch.tensor([0.0, 0.0, 1.0, 1.0])
    prompts = Prompts(
        points=coordinates,
        point_labels=labels,
        boxes=edges,
        masks=None,
        has_mask=torch.zeros(1, dtype=torch.bool),
        class_index=torch.tensor([-1]),
    )
    tokens, used = sparse_prompts(prompts, ENCODER)
    ours = torch.cat(tokens, dim=1)[torch.cat(used, dim=1)]
    count = len(points)
    theirs, _ = (
        ENCODER(points=(coordinates[:, :count] - 0.5, labels[:, :count]) if points else None, boxes=indices, masks=None)
        if points or box is not None
        else (torch.zeros(1, 0, 32), None)
    )
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=0)
    assert torch.isfinite(torch.cat(tokens, dim=1)).all()


def test_masks_of_another_grid_are_resized_and_absent_ones_are_sams_constant() -> None:
    masks = torch.randn(2, 1, 32, 32)
    prompts = Prompts(
        points=torch.zeros(2, 0, 2),
        point_labels=torch.zeros(2, 0, dtype=torch.long),
        boxes=torch.full((2, 4), torch.nan),
        masks=masks,
        has_mask=torch.tensor([True, False]),
        class_index=torch.tensor([-1, -1]),
    )
    dense = dense_prompts(prompts, ENCODER)
    small = torch.nn.functional.interpolate(masks, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(dense[:1], ENCODER.mask_downscaling(small[:1]))
    assert torch.equal(dense[1], ENCODER.no_mask_embed.weight[0][:, None, None].expand(-1, 4, 4))
