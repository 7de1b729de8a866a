"""Windows of a volume: where they lie, what is asked in them, and how their answers become one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.engine.windows import (
    Extent,
    Mosaic,
    Window,
    WindowGroup,
    batches,
    gaussian,
    group_windows,
    total_weight,
)
from medmoe_cli.core.nn.prompts import Click, QueryPrompt

SHAPES = st.tuples(*[st.integers(3, 40)] * 3)
SIDES = st.sampled_from([8, 12, 16])


def extent(low: tuple[float, float, float], high: tuple[float, float, float], margin: float = 0.125) -> Extent:
    return Extent(low=low, high=high, margin=margin)


@st.composite
def extents(draw: st.DrawFn, shape: tuple[int, int, int]) -> Extent:
    """What somebody could prompt in a volume: a box or a few points, anywhere, of any size."""
    low, high = [], []
    for length in shape:
        first, last = sorted((draw(st.floats(0, length)), draw(st.floats(0, length))))
        low.append(first)
        high.append(last)
    return extent((low[0], low[1], low[2]), (high[0], high[1], high[2]), draw(st.sampled_from([0.125, 0.25])))


def counted(group: WindowGroup, shape: tuple[int, int, int]) -> np.ndarray:
    """How many windows show each voxel."""
    seen = np.zeros(shape, int)
    for window in group.windows:
        seen[window.place] += 1
    return seen


@given(shape=SHAPES, side=SIDES)
@settings(max_examples=60, deadline=None)
def test_windows_over_a_whole_volume_show_every_voxel_and_their_shares_are_one(
    shape: tuple[int, int, int], side: int
) -> None:
    (group,) = group_windows([None, None], shape, side)
    assert group.queries == (0, 1)
    seen = counted(group, shape)
    assert seen.min() >= 1
    for axis, length in enumerate(shape):
        starts = sorted({window.start[axis] for window in group.windows})
        assert all(later - earlier <= side // 2 for earlier, later in itertools.pairwise(starts))
        if length >= side:
            assert (starts[0], starts[-1]) == (0, length - side)
        else:
            assert len(starts) == 1
    mosaic = Mosaic(group.place, total_weight(group.windows, group.place))
    for window in group.windows:
        mosaic.add(window, np.ones((side,) * 3, np.float32))
    assert mosaic.probability.shape == shape
    # Half precision: a share and a sum below one are each rounded by up to 2^-12 for every window over a voxel.
    np.testing.assert_allclose(mosaic.probability, 1, atol=2 * seen.max() * 2**-12)


@given(data=st.data(), shape=SHAPES, side=SIDES)
@settings(max_examples=80, deadline=None)
def test_every_prompt_is_wholly_in_its_window_or_covered_by_several(
    data: st.DataObject, shape: tuple[int, int, int], side: int
) -> None:
    wanted = [data.draw(extents(shape)) for _ in range(data.draw(st.integers(1, 4)))]
    groups = group_windows(wanted, shape, side)
    assert sorted(query for group in groups for query in group.queries) == list(range(len(wanted)))
    for group in groups:
        assert len(group.queries) == len(set(group.queries))
        for query in group.queries:
            span = wanted[query]
            if len(group.windows) == 1:
                (window,) = group.windows
                assert all(start <= low for start, low in zip(window.start, span.low, strict=True))
                assert all(high <= start + side for start, high in zip(window.start, span.high, strict=True))
            else:
                inside = tuple(
                    slice(int(low), max(int(np.ceil(high)), int(low) + 1))
                    for low, high in zip(span.low, span.high, strict=True)
                )
                assert (counted(group, shape)[inside] >= 1).all()


@given(data=st.data(), shape=st.tuples(*[st.integers(16, 40)] * 3))
@settings(max_examples=40, deadline=None)
def test_windows_stay_inside_a_volume_that_is_large_enough(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    side = 16
    for group in group_windows([data.draw(extents(shape)), None], shape, side):
        for window in group.windows:
            assert all(0 <= start <= length - side for start, length in zip(window.start, shape, strict=True))
            assert window.valid.all()


def test_structures_close_to_each_other_share_a_window_and_distant_ones_do_not() -> None:
    near = [extent((10, 10, 10), (14, 14, 14)), extent((16, 12, 10), (20, 15, 13)), extent((50, 50, 50), (54, 52, 56))]
    groups = group_windows(near, (64, 64, 64), 32)
    assert [group.queries for group in groups] == [(0, 1), (2,)]
    assert all(len(group.windows) == 1 for group in groups)


def test_a_box_larger_than_a_window_slides_and_one_that_just_fits_does_not() -> None:
    just, larger = extent((8, 8, 8), (40, 40, 40)), extent((8, 8, 8), (40, 40, 41))
    (group,) = group_windows([just], (64, 64, 64), 32)
    assert [window.start for window in group.windows] == [(8, 8, 8)]
    (group,) = group_windows([larger], (64, 64, 64), 32)
    assert len(group.windows) > 1
    # Around the box an eighth of a window more, and no further.
    assert group.place == (slice(4, 44), slice(4, 44), slice(4, 45))


def test_a_point_is_in_the_middle_unless_the_volume_ends() -> None:
    (middle,) = group_windows([extent((30.5, 31.5, 32.5), (30.5, 31.5, 32.5), 0.25)], (64, 64, 64), 32)
    assert middle.windows[0].start == (14, 16, 16)
    (corner,) = group_windows([extent((0.5, 63.5, 32.5), (0.5, 63.5, 32.5), 0.25)], (64, 64, 64), 32)
    assert corner.windows[0].start == (0, 32, 16)


def test_a_window_larger_than_the_volume_hangs_over_on_both_sides() -> None:
    (group,) = group_windows([None], (10, 32, 40), 32)
    assert {window.start for window in group.windows} == {(-11, 0, 0), (-11, 0, 8)}
    window = group.windows[0]
    volume = np.arange(10 * 32 * 40, dtype=np.float32).reshape(1, 10, 32, 40) + 1
    cut = window.cut(volume)
    assert cut.shape == (1, 32, 32, 32)
    np.testing.assert_array_equal(cut[0][window.own], volume[0, :, :, :32])
    np.testing.assert_array_equal(cut[0] > 0, window.valid)


def test_prompts_move_into_the_window_in_x_y_z() -> None:
    window = Window(start=(10, 20, 30), side=16, shape=(64, 64, 64))
    prompt = QueryPrompt(
        clicks=(
            Click(position=(31.5, 22.5, 13.5), foreground=True),
            Click(position=(60.0, 22.0, 13.0), foreground=True),
            Click(position=(40.0, 30.0, 20.0), foreground=False),
        ),
        box=(28.0, 21.0, 5.0, 40.0, 50.0, 26.0),
        class_index=3,
    )
    moved = window.prompt(prompt)
    assert moved is not None
    assert moved.clicks == (
        Click(position=(1.5, 2.5, 3.5), foreground=True),
        Click(position=(10.0, 10.0, 10.0), foreground=False),
    )
    assert moved.box == (0.0, 1.0, 0.0, 10.0, 16.0, 16.0)
    assert moved.class_index == 3


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        (QueryPrompt(box=(0, 0, 0, 30, 64, 64)), False),  # ends where the window begins
        (QueryPrompt(box=(0, 0, 0, 30.5, 64, 64)), True),
        (QueryPrompt(clicks=(Click(position=(5.0, 5.0, 5.0), foreground=True),)), False),
        (
            QueryPrompt(
                clicks=(
                    Click(position=(5.0, 5.0, 5.0), foreground=True),
                    Click(position=(35.0, 25.0, 15.0), foreground=False),
                )
            ),
            False,  # what is not the structure says nothing of where it is
        ),
        (QueryPrompt(clicks=(Click(position=(35.0, 25.0, 15.0), foreground=False),)), True),  # it alone is all there is
        (QueryPrompt(class_index=1), True),
        (QueryPrompt(), True),
    ],
)
def test_a_window_without_a_word_of_where_the_structure_is_is_not_asked(prompt: QueryPrompt, asked: bool) -> None:
    window = Window(start=(10, 20, 30), side=16, shape=(64, 64, 64))
    assert (window.prompt(prompt) is not None) == asked


def test_answers_are_weighed_by_their_distance_from_the_middle() -> None:
    weights = gaussian(16)
    assert weights.max() == 1
    assert weights.min() > 0
    np.testing.assert_array_equal(weights, weights[::-1, ::-1, ::-1])
    np.testing.assert_array_equal(weights, weights.transpose(2, 0, 1))
    windows = tuple(Window(start=(0, 0, start), side=16, shape=(16, 16, 24)) for start in (0, 8))
    place = (slice(0, 16), slice(0, 16), slice(0, 24))
    mosaic = Mosaic(place, total_weight(windows, place))
    mosaic.add(windows[0], np.zeros((16,) * 3, np.float32))
    mosaic.add(windows[1], np.ones((16,) * 3, np.float32))
    line = mosaic.probability[8, 8].astype(float)
    np.testing.assert_array_equal(line[:8], 0)
    np.testing.assert_allclose(line[16:], 1, atol=1e-3)
    assert (np.diff(line) >= 0).all()
    assert abs(line[11] + line[12] - 1) < 2e-3  # half way between the two middles


def test_one_window_answers_as_it_is() -> None:
    window = Window(start=(-3, 0, 2), side=8, shape=(5, 8, 12))
    mosaic = Mosaic(window.place, total_weight((window,), window.place))
    said = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    mosaic.add(window, said)
    np.testing.assert_array_equal(mosaic.probability, said[3:].astype(np.float16))


def test_batches_keep_order_and_lose_nothing() -> None:
    windows = [Window(start=(0, 0, place), side=4, shape=(4, 4, 20)) for place in range(7)]
    parts = list(batches(windows, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [window for part in parts for window in part] == windows
