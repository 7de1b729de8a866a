"""Prompts in 3D: which axis is which, what a query uses, and that neighbours do not matter."""

from dataclasses import replace

import pytest
import torch

from medmoe_cli.core.nn.sam3d import PromptEncoder3d
from medmoe_cli.core.nn.sam3d.prompts import BACKGROUND, FOREGROUND
from tests.tools.sam3d import SMALL, clicks, no_boxes, small_parts


def encoder(*, published: bool = False) -> PromptEncoder3d:
    return small_parts(replace(SMALL, published_positions=published)).prompt_encoder


def centre(d: int, h: int, w: int) -> tuple[float, float, float]:
    """(x, y, z) of the centre of an embedding cell, four voxels wide."""
    return 4 * w + 2.0, 4 * h + 2.0, 4 * d + 2.0


@pytest.mark.parametrize("place", [(0, 1, 3), (2, 0, 1), (3, 3, 2)])
def test_a_click_is_coded_like_the_cell_it_lies_in(place: tuple[int, int, int]) -> None:
    """x is along W, y along H, z along D; the public weights expect D and H of the dense code exchanged."""
    for published in (False, True):
        prompts = encoder(published=published)
        sparse, _ = prompts(*clicks(centre(*place)), no_boxes(1), None)
        code = sparse.values[0, 0] - prompts.point_embeddings[FOREGROUND].weight[0]
        d, h, w = (place[1], place[0], place[2]) if published else place
        torch.testing.assert_close(code, prompts.dense_positions()[0, :, d, h, w], atol=1e-4, rtol=0)
        others = (prompts.dense_positions()[0] - code[:, None, None, None]).abs().amax(0) < 1e-3
        assert others.sum() == 1


def test_labels_choose_the_embedding() -> None:
    prompts = encoder()
    position = (3.0, 5.0, 7.0)
    sparse, _ = prompts(*clicks(position, position, labels=(1, 0)), no_boxes(1), None)
    difference = prompts.point_embeddings[FOREGROUND].weight[0] - prompts.point_embeddings[BACKGROUND].weight[0]
    torch.testing.assert_close(sparse.values[0, 0] - sparse.values[0, 1], difference, atol=1e-5, rtol=0)


def test_the_slots_that_each_kind_of_query_uses() -> None:
    """[two points | padding point | two corners]; the padding point comes with clicks and without a box."""
    points = torch.rand(4, 2, 3) * 16
    labels = torch.tensor([[1, -1], [1, 0], [-1, -1], [-1, -1]])
    boxes = no_boxes(4)
    boxes[1] = boxes[2] = torch.tensor([1.0, 2, 3, 9, 10, 11])
    sparse, _ = encoder()(points, labels, boxes, None)
    yes, no = True, False
    assert sparse.used.tolist() == [
        [yes, no, yes, no, no],
        [yes, yes, no, yes, yes],
        [no, no, no, yes, yes],
        [no, no, no, no, no],
    ]
    assert not sparse.values[~sparse.used].any()
    assert sparse.values.isfinite().all()


def test_a_box_is_its_two_outermost_voxels() -> None:
    prompts = encoder()
    box = torch.tensor([[1.0, 2, 3, 9, 10, 11]])
    points, labels = clicks((1.5, 2.5, 3.5), (8.5, 9.5, 10.5))
    corners = prompts(points, torch.full_like(labels, -1), box, None)[0].values[0, 3:]
    clicked = prompts(points, labels, no_boxes(1), None)[0].values[0, :2] - prompts.point_embeddings[FOREGROUND].weight
    kinds = torch.cat([prompts.point_embeddings[2].weight, prompts.point_embeddings[3].weight])
    torch.testing.assert_close(corners, clicked + kinds, atol=1e-5, rtol=0)


def test_no_mask_means_zeros_unless_told_that_there_is_none() -> None:
    prompts = encoder()
    points, labels = clicks((3.0, 5.0, 7.0))
    points, labels, boxes = points.expand(2, -1, -1), labels.expand(2, -1), no_boxes(2)
    zeros = prompts(points, labels, boxes, torch.zeros(2, 1, 16, 16, 16))[1]
    torch.testing.assert_close(prompts(points, labels, boxes, None)[1], zeros)
    given = torch.randn(2, 1, 16, 16, 16)
    mixed = prompts(points, labels, boxes, given, has_mask_Q=torch.tensor([True, False]))[1]
    torch.testing.assert_close(mixed[0], prompts(points, labels, boxes, given)[1][0])
    constant = prompts.no_mask_embed.weight[0, :, None, None, None].expand(-1, 4, 4, 4)
    torch.testing.assert_close(mixed[1], constant)
    with pytest.raises(ValueError, match=r"mask prompts of \(8, 8, 8\) for a mask grid of \(16, 16, 16\)"):
        prompts(points, labels, boxes, torch.zeros(2, 1, 8, 8, 8))


def test_axes_of_a_mask_prompt_are_those_of_the_dense_map() -> None:
    prompts = encoder()
    empty = torch.zeros(1, 1, 16, 16, 16)
    for axis in range(3):
        mask = empty.clone()
        mask.select(2 + axis, 0).fill_(5.0)
        dense = [prompts(*clicks((1.0, 1.0, 1.0)), no_boxes(1), given)[1][0] for given in (mask, empty)]
        changed = (dense[0] - dense[1]).abs().sum(0)
        others = [other for other in range(3) if other != axis]
        assert (changed.sum(dim=others) > 0).tolist() == [True, False, False, False]


def test_appended_tokens_are_zero_where_unused() -> None:
    sparse, _ = encoder()(*clicks((3.0, 5.0, 7.0)), no_boxes(1), None)
    longer = sparse.append(torch.ones(1, 2, 48), torch.tensor([[True, False]]))
    assert longer.values.shape == (1, 6, 48)
    assert longer.used[0].tolist() == [True, True, False, False, True, False]
    assert longer.values[0, 4].eq(1).all()
    assert longer.values[0, 5].eq(0).all()


def test_positions_are_exact_under_autocast() -> None:
    prompts = encoder()
    points, labels = clicks((3.25, 5.5, 7.75))
    exact = prompts(points, labels, no_boxes(1), None)[0].values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = prompts(points, labels, no_boxes(1), None)[0].values
    torch.testing.assert_close(mixed, exact)


def test_a_width_that_no_code_fills_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 48"):
        PromptEncoder3d(replace(SMALL, neck_width=64))
