"""Drawn prompts: ellipses in boxes, discs at clicks, nothing for what is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medmoe_cli.core.models.segmote.answer import DrawnPrior
from medmoe_cli.core.models.segmote.guidance import NUM_MAPS, draw, ellipse_logits, grid_coordinates, previous_mask
from medmoe_cli.core.models.segmote.prompting import dense_prompts, encode_prompts
from tests.tools.segmote import SIZE, mixed_prompts, small_segmote

PROMPTS, _ = mixed_prompts()
ELLIPSE, EDGE, INSIDE, OUTSIDE = range(NUM_MAPS)


def test_the_ellipse_fills_its_box() -> None:
    x, y = grid_coordinates(SIZE, input_size=SIZE, like=PROMPTS.boxes)
    logits = ellipse_logits(PROMPTS, x, y)
    x0, y0, x1, y1 = (int(value) for value in PROMPTS.boxes[1])
    inside = logits[1] > 0
    rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]) + 1) == (y0, y1)
    assert (int(columns[0]), int(columns[-1]) + 1) == (x0, x1)
    area = torch.pi / 4 * (x1 - x0) * (y1 - y0)
    assert inside.sum().item() == pytest.approx(area, rel=0.01)
    assert (logits[[0, 2, 3, 4, 6, 7, 8]] == 0).all()


def test_a_grid_of_any_resolution_draws_the_same_picture() -> None:
    fine = draw(PROMPTS, *grid_coordinates(SIZE, input_size=SIZE, like=PROMPTS.boxes), input_size=SIZE)
    coarse = draw(PROMPTS, *grid_coordinates(16, input_size=SIZE, like=PROMPTS.boxes), input_size=SIZE)
    assert fine.shape == (9, NUM_MAPS, SIZE, SIZE)
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    assert (pooled - coarse).abs().mean() < 0.02
    assert torch.isfinite(fine).all()
    assert fine.abs().max() <= 1.5


def test_clicks_are_drawn_where_they_are_and_by_their_label() -> None:
    x, y = grid_coordinates(SIZE, input_size=SIZE, like=PROMPTS.boxes)
    maps = draw(PROMPTS, x, y, input_size=SIZE)
    for channel, point in ((INSIDE, 0), (OUTSIDE, 1)):
        peak = maps[0, channel].flatten().argmax()
        found = torch.stack([peak % SIZE, peak // SIZE]) + 0.5
        assert (found - PROMPTS.points[0, point]).abs().max() <= 1
    assert maps[4, OUTSIDE].max() == 0
    assert maps[5, INSIDE].max() == 0
    assert (maps[[1, 2, 3, 6, 7, 8]][:, [INSIDE, OUTSIDE]] == 0).all()


def test_the_edge_map_changes_sign_on_the_box() -> None:
    x, y = grid_coordinates(SIZE, input_size=SIZE, like=PROMPTS.boxes)
    edge = draw(PROMPTS, x, y, input_size=SIZE)[1, EDGE]
    x0, y0, x1, y1 = (int(value) for value in PROMPTS.boxes[1])
    box = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    box[y0:y1, x0:x1] = True
    assert torch.equal(edge > 0, box)


def test_previous_masks_on_any_grid() -> None:
    like = torch.zeros(9, 1, 16, 16)
    assert PROMPTS.masks is not None
    found = previous_mask(PROMPTS, like=like)
    torch.testing.assert_close(found[4], (PROMPTS.masks[4] / 4).tanh())
    assert (found[~PROMPTS.has_mask] == 0).all()
    assert previous_mask(PROMPTS, like=torch.zeros(9, 1, 8, 8)).shape == (9, 1, 8, 8)
    assert previous_mask(replace(PROMPTS, masks=None), like=like).abs().max() == 0


def test_a_box_without_a_mask_comes_with_its_ellipse_and_a_mask_stays() -> None:
    model = small_segmote(draw_prompts=True).eval()
    embedding = torch.zeros(9, 32, 4, 4)
    with torch.no_grad():
        drawn = encode_prompts(
            PROMPTS,
            prompt_encoder=model.prompt_encoder,
            text=model.text,
            tokenizer=None,
            embedding_QDhw=embedding,
            draw_boxes=True,
        ).dense
        plain = dense_prompts(PROMPTS, model.prompt_encoder)
    changed = (drawn - plain).abs().amax(dim=(1, 2, 3)) > 0
    assert changed.tolist() == [False, True, False, False, False, True, False, False, False]


def test_the_prior_is_the_ellipse_or_background() -> None:
    prior = DrawnPrior()
    x, y = grid_coordinates(SIZE, input_size=SIZE, like=PROMPTS.boxes)
    with torch.no_grad():
        logits = prior(PROMPTS, x, y)
    assert logits.shape == (9, 1, SIZE, SIZE)
    torch.testing.assert_close(logits[1, 0], ellipse_logits(PROMPTS, x, y, lowest=-14)[1])
    assert (logits[3] == -4).all()
