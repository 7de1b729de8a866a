import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medmoe_cli.core.nn.prompts import (
    Click,
    QueryPrompt,
    central_point,
    collate,
    correction_click,
    jittered_box,
    mask_prompt,
    random_point,
    simulate,
    tight_box,
)

masks = st.one_of(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)),
    st.tuples(st.integers(2, 12), st.integers(2, 12)).map(lambda shape: np.ones(shape, bool)),
)


def pixel(click: Click) -> tuple[int, ...]:
    """Array index of the pixel that a click lies in."""
    assert all(place % 1 == 0.5 for place in click.position)
    return tuple(int(place) for place in reversed(click.position))


def slab(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*part) for part in ranges)] = True
    return mask


def test_the_box_of_pixels_a_to_b_is_a_to_b_plus_one() -> None:
    assert tight_box(slab((20, 30), (3, 8), (10, 25))) == (10, 3, 25, 8)
    assert tight_box(slab((9, 20, 30), (2, 3), (3, 8), (10, 25))) == (10, 3, 2, 25, 8, 3)
    assert tight_box(np.ones((4, 6), bool)) == (0, 0, 6, 4)


def test_the_central_point_is_a_pixel_centre_x_first() -> None:
    assert central_point(slab((20, 30), (3, 8), (10, 25))) == Click(position=(17.5, 5.5), foreground=True)
    assert central_point(np.ones((1, 1), bool)) == Click(position=(0.5, 0.5), foreground=True)
    ball = slab((9, 9, 9), (0, 5), (2, 7), (4, 9))
    assert central_point(ball) == Click(position=(6.5, 4.5, 2.5), foreground=True)


def largest_error_by_hand(predicted: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """The first of the largest connected errors over the whole image, and whether it was missed."""
    found = []
    for wrong, missed in ((reference & ~predicted, True), (predicted & ~reference, False)):
        labels, count = ndimage.label(wrong)
        sizes = [int((labels == number).sum()) for number in range(1, count + 1)]
        if sizes:
            found.append((max(sizes), missed, labels == sizes.index(max(sizes)) + 1))
    if not found:
        return None
    _, missed, region = max(found, key=lambda item: item[:2])
    return region, missed


@given(shape=hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9), seed=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_a_correction_is_the_deepest_place_of_the_largest_error(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, reference = rng.random(shape) < 0.4, rng.random(shape) < 0.4
    expected = largest_error_by_hand(predicted, reference)
    click = correction_click(predicted, reference)
    if expected is None:
        assert click is None
        return
    region, missed = expected
    assert click is not None
    assert click.foreground == missed
    assert click.position == central_point(region).position  # type: ignore[union-attr]
    depth = ndimage.distance_transform_edt(np.pad(region, 1))
    assert depth[tuple(place + 1 for place in pixel(click))] == depth.max()


@given(mask=masks, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_points_lie_on_the_mask_and_boxes_hold_it(mask: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clicks = (random_point(mask, rng=rng), central_point(mask))
    box = tight_box(mask)
    if not mask.any():
        assert clicks == (None, None)
        assert box is None
        assert jittered_box(mask, rng=rng) is None
        assert all(
            simulate(kind, mask, rng=rng, mask_size=(4,) * mask.ndim).is_empty for kind in ("point", "box", "mask")
        )
        return
    for click in clicks:
        assert click is not None
        assert mask[pixel(click)]
    assert box is not None
    low, high = np.array(box[: mask.ndim], int)[::-1], np.array(box[mask.ndim :], int)[::-1]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    assert mask[inside].sum() == mask.sum()
    for axis in range(mask.ndim):  # tight: every face of the box touches the mask
        cropped = np.moveaxis(mask[inside], axis, 0)
        assert cropped[0].any()
        assert cropped[-1].any()


@given(mask=masks.filter(lambda mask: bool(mask.any())), seed=st.integers(0, 99), jitter=st.floats(0, 0.4))
@settings(max_examples=60, deadline=None)
def test_jitter_moves_each_edge_by_at_most_its_share(mask: np.ndarray, seed: int, jitter: float) -> None:
    tight = np.array(tight_box(mask))
    moved = np.array(jittered_box(mask, rng=np.random.default_rng(seed), jitter=jitter))
    sides = np.tile(tight[mask.ndim :] - tight[: mask.ndim], 2)
    assert (np.abs(moved - tight) <= jitter * sides + 1e-9).all()
    assert (moved >= 0).all()
    assert (moved <= np.tile(mask.shape[::-1], 2)).all()
    assert (moved[mask.ndim :] > moved[: mask.ndim]).all()


def test_jitter_is_drawn_from_the_generator_alone() -> None:
    mask = slab((40, 40), (10, 30), (5, 35))
    draws = [jittered_box(mask, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert jittered_box(mask, rng=np.random.default_rng(1), jitter=0.0) == tight_box(mask)
    assert simulate("box", mask).box == tight_box(mask)


@given(shape=st.tuples(st.integers(2, 10), st.integers(2, 10)), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_a_correction_lies_in_the_error_and_says_what_is_wrong(shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, reference = rng.random((2, *shape)) < 0.5
    click = correction_click(predicted, reference)
    if (predicted == reference).all():
        assert click is None
        return
    assert click is not None
    assert predicted[pixel(click)] != reference[pixel(click)]
    assert click.foreground == reference[pixel(click)]


def test_the_largest_error_component_is_corrected_at_its_centre() -> None:
    reference = slab((40, 40), (2, 7), (2, 7)) | slab((40, 40), (20, 31), (20, 31))
    assert correction_click(np.zeros_like(reference), reference) == Click(position=(25.5, 25.5), foreground=True)
    excess = reference | slab((40, 40), (0, 15), (10, 40))
    assert correction_click(excess, reference) == Click(position=(pytest.approx(25, abs=8), 7.5), foreground=False)
    assert correction_click(reference, reference) is None


def test_nobody_clicks_on_padding() -> None:
    reference = np.zeros((10, 10), bool)
    predicted = slab((10, 10), (0, 10), (5, 10)) | slab((10, 10), (1, 2), (1, 2))
    valid = slab((10, 10), (0, 10), (0, 5))
    assert correction_click(predicted, reference, valid=valid) == Click(position=(1.5, 1.5), foreground=False)


@given(mask=hnp.arrays(bool, (12, 8)))
@settings(max_examples=30, deadline=None)
def test_a_mask_prompt_keeps_the_area(mask: np.ndarray) -> None:
    logits = mask_prompt(mask, (4, 4))
    assert logits.dtype == np.float32
    assert np.isclose((logits / 8 + 1).mean() / 2, mask.mean(), atol=1e-6)
    np.testing.assert_allclose(mask_prompt(mask, (12, 8)), np.where(mask, 8.0, -8.0))


@pytest.mark.parametrize("size", [(5, 7), (12, 8), (24, 8)])
def test_a_mask_prompt_fits_any_grid(size: tuple[int, int]) -> None:
    logits = mask_prompt(np.ones((12, 8)), size)
    assert logits.shape == size
    assert (logits == 8.0).all()


def test_text_keeps_its_class_on_an_empty_mask() -> None:
    assert simulate("text", np.zeros((4, 4)), class_index=3) == QueryPrompt(class_index=3)
    assert simulate("none", np.ones((4, 4)), class_index=3).is_empty


def test_collate_pads_what_a_query_lacks() -> None:
    queries = [
        QueryPrompt(clicks=(Click(position=(1.5, 2.5), foreground=True), Click(position=(3.5, 4.5), foreground=False))),
        QueryPrompt(box=(1.0, 2.0, 3.0, 4.0), mask=np.ones((4, 4), np.float32)),
        QueryPrompt(class_index=2),
        QueryPrompt(),
    ]
    prompts = collate(queries, mask_size=(4, 4))
    assert prompts.points[0].tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert prompts.point_labels.tolist() == [[1, 0], [-1, -1], [-1, -1], [-1, -1]]
    assert prompts.boxes[1].tolist() == [1, 2, 3, 4]
    assert prompts.boxes[[0, 2, 3]].isnan().all()
    assert prompts.has_mask.tolist() == [False, True, False, False]
    assert prompts.masks is not None
    assert prompts.masks.flatten(1).sum(1).tolist() == [0, 16, 0, 0]
    assert prompts.class_index.tolist() == [-1, -1, 2, -1]
    assert prompts.self_prompted.tolist() == [False, False, False, True]


def test_collate_without_any_prompt() -> None:
    prompts = collate([QueryPrompt(), QueryPrompt()], mask_size=(2, 4, 4))
    assert prompts.masks is None
    assert prompts.boxes.shape == (2, 6)
    assert prompts.points.shape == (2, 0, 3)
    assert prompts.self_prompted.tolist() == [True, True]
    assert prompts.to(torch.device("cpu")).num_queries == 2
