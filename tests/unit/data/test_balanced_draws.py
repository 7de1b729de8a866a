"""How often members and classes are drawn: the formula, its ends, and an order that keeps to it exactly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.data.balance import sample_weights
from medmoe_cli.core.data.concat_source import ConcatSource, SourcePart
from medmoe_cli.core.data.selected_source import SelectedSource
from medmoe_cli.core.engine.order import Order
from medmoe_cli.core.imaging.sample import Sample


class Listed:
    """Samples that show these classes, each a row of the picture; slice i of its case."""

    def __init__(self, *classes: tuple[int, ...], case: str = "case") -> None:
        self._classes, self._case = classes, case

    def __len__(self) -> int:
        return len(self._classes)

    def key(self, index: int) -> str:
        return f"{self._case}:{index}"

    def classes(self, index: int) -> tuple[int, ...]:
        return self._classes[index]

    def load(self, index: int, *, seed: int | None) -> Sample:
        label = np.zeros((6, 6), np.uint8)
        for value in self._classes[index]:
            label[value] = value
        image = np.full((1, 6, 6), index, np.float32)
        return Sample(image=image, label=label, valid=np.ones((6, 6), bool), case_id=self._case, index=index)


def joined(*members: Listed) -> ConcatSource:
    return ConcatSource([SourcePart(name=f"m{place}", source=one) for place, one in enumerate(members)])


LARGE, SMALL = Listed(*[(1,)] * 6, (1, 2), (2,)), Listed((3,), (3,))


def test_at_0_members_are_drawn_by_size_and_slices_alike() -> None:
    assert sample_weights(joined(LARGE, SMALL), (1, 1), 0.0) == pytest.approx(np.full(10, 0.1))


def test_at_1_members_are_drawn_alike_and_the_classes_of_each_too() -> None:
    weights = sample_weights(joined(LARGE, SMALL), (1, 1), 1.0)
    assert weights[8:] == pytest.approx([0.25, 0.25])
    # Seven slices show class 1 and two class 2: half of the member's draws for each.
    assert weights[:6] == pytest.approx(np.full(6, 0.5 * 0.5 / 7))
    assert weights[6] == pytest.approx(0.5 * (0.5 / 7 + 0.5 / 2))
    assert weights[7] == pytest.approx(0.5 * 0.5 / 2)


def test_between_the_ends_sizes_count_by_their_power_and_weights_multiply() -> None:
    weights = sample_weights(joined(LARGE, SMALL), (1, 3), 0.5)
    assert weights[8:].sum() == pytest.approx(3 * np.sqrt(2) / (np.sqrt(8) + 3 * np.sqrt(2)))


def test_samples_without_a_label_keep_their_share() -> None:
    weights = sample_weights(joined(Listed((), (), (1,), (1,), (1,), (2,), (), ())), (1,), 1.0)
    assert weights[[0, 1, 6, 7]] == pytest.approx(np.full(4, 1 / 8))
    assert weights[5] == pytest.approx(0.5 / 2)


@settings(max_examples=40, deadline=None)
@given(
    members=st.lists(
        st.lists(
            st.sets(st.integers(1, 4), max_size=3).map(lambda found: tuple(sorted(found))), min_size=1, max_size=6
        ),
        min_size=1,
        max_size=4,
    ),
    balance=st.floats(0, 1),
)
def test_weights_add_up_and_leave_nobody_out(members: list[list[tuple[int, ...]]], balance: float) -> None:
    source = joined(*(Listed(*classes) for classes in members))
    weights = sample_weights(source, [1.0] * len(members), balance)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 5), min_size=2, max_size=12),
    batch_size=st.integers(1, 5),
    replicas=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_an_epoch_draws_each_sample_as_often_as_its_weight_says(
    weights: list[float], batch_size: int, replicas: int, epoch: int
) -> None:
    shares = np.array(weights) / sum(weights)
    number = len(shares)
    ranks = [
        Order(num_samples=number, batch_size=batch_size, seed=7, num_replicas=replicas, rank=rank, weights=shares)
        for rank in range(replicas)
    ]
    start = epoch * ranks[0].steps_per_epoch
    draws = [draw for one in ranks for batch in one.batches(start, start + one.steps_per_epoch) for draw in batch]
    assert len(draws) == len(set(draws))  # the same sample again is another draw
    counts = Counter(draw.index for draw in draws)
    filled = len(draws) - number
    for index, share in enumerate(shares):
        assert np.floor(number * share - 1e-9) <= counts[index] <= np.ceil(number * share + 1e-9) + filled
    again = Order(num_samples=number, batch_size=batch_size, seed=7, num_replicas=replicas, weights=shares)
    assert again.batch(start) == ranks[0].batch(start)


def test_over_many_epochs_rare_samples_come_as_often_as_they_should() -> None:
    shares = np.array([0.05, 0.15, 0.8])
    order = Order(num_samples=3, batch_size=3, seed=1, weights=shares)
    counts = Counter(draw.index for step in range(400) for draw in order.batch(step))
    assert [counts[index] / 1200 for index in range(3)] == pytest.approx(shares, abs=0.02)


def test_without_weights_the_order_is_what_it_was() -> None:
    order = Order(num_samples=5, batch_size=2, seed=0, num_replicas=2)
    draws = [draw for step in range(2) for draw in order.batch(step)]
    assert {draw.repeat for draw in draws[:2]} == {0}
    assert len(order.batch(1)) == 1


def test_joined_samples_say_what_their_member_knows() -> None:
    part = SourcePart(name="heads", source=Listed((1, 2), (3,)), values={1: 7, 2: 7, 3: 5}, known=(5, 7, 9))
    source = ConcatSource([part])
    assert source.classes(0) == (7,)
    sample = source.load(0, seed=None)
    assert sample.label is not None
    assert sorted(np.unique(sample.label)) == [0, 7]
    assert sample.known == (5, 7, 9)
    # A class that leads nowhere is background in the joined numbering.
    left_out = ConcatSource([SourcePart(name="heads", source=Listed((1, 4)), values={1: 2}, known=(2,))])
    label = left_out.load(0, seed=None).label
    assert label is not None
    assert sorted(np.unique(label)) == [0, 2]


def test_only_selected_masks_are_asked_for_and_the_others_are_unknown() -> None:
    source = Listed((1, 2, 3), (1,), (2,), case="a")
    chosen = {"a": {0: frozenset({1, 3}), 2: frozenset({1})}}
    selected = SelectedSource(source, chosen, values=(1, 2, 3, 4))
    assert len(selected) == 1  # slice 1 is not selected, and slice 2 does not show what is
    assert selected.key(0) == "a:0"
    assert selected.classes(0) == (1, 3)
    sample = selected.load(0, seed=None)
    assert sample.label is not None
    assert sorted(np.unique(sample.label)) == [0, 1, 3]
    assert sample.known == (1, 3, 4)  # 4 is not there, and that is known; 2 is there, and was not selected
    assert sample.asked == (1, 3, 4)


def test_of_volumes_a_class_is_kept_that_is_selected_on_any_slice() -> None:
    class Volumes(Listed):
        def key(self, index: int) -> str:
            return f"a:{self._classes[index][0]}"

    chosen = {"a": {3: frozenset({2}), 9: frozenset({3})}}
    selected = SelectedSource(Volumes((1,), (2,), (3,)), chosen, values=(1, 2, 3), volumes=True)
    assert [selected.key(index) for index in range(len(selected))] == ["a:2", "a:3"]
