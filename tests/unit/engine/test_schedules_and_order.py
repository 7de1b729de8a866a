from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.config.sections import TrainConfig
from medmoe_cli.core.engine.job import spans
from medmoe_cli.core.engine.order import Order
from medmoe_cli.core.engine.schedules import rate_factor
from tests.tools.tiny_segmenter import DECODER_ONLY, PROMPTED


def factors(config: TrainConfig, total: int, per_epoch: int) -> list[float]:
    return [rate_factor(config, step=step, total_steps=total, steps_per_epoch=per_epoch) for step in range(total)]


def test_the_paper_halves_after_epochs_7_and_12() -> None:
    config = TrainConfig(schedule="multistep", milestones=(7, 12), gamma=0.5)
    by_epoch = factors(config, 15 * 4, 4)[::4]
    assert by_epoch == [1.0] * 7 + [0.5] * 5 + [0.25] * 3
    assert factors(config, 60, 4)[27] == 1.0
    assert factors(config, 60, 4)[28] == 0.5


def test_poly_and_cosine_by_hand() -> None:
    poly = factors(TrainConfig(schedule="poly"), 10, 5)
    assert poly[0] == 1.0
    assert poly[5] == pytest.approx(0.5**0.9)
    assert poly[9] == pytest.approx(0.1**0.9)
    cosine = factors(TrainConfig(schedule="cosine"), 10, 5)
    assert cosine[0] == 1.0
    assert cosine[5] == pytest.approx(0.5)
    assert cosine[9] == pytest.approx(0.0244717, abs=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "poly", "cosine"])
def test_warm_up_rises_linearly_and_hands_over_at_the_full_rate(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, warmup_steps=4)  # type: ignore[arg-type]
    rates = factors(config, 20, 5)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert all(0 <= rate <= 1 for rate in rates)


@given(num_samples=st.integers(1, 40), batch_size=st.integers(1, 9), seed=st.integers(0, 99), epoch=st.integers(0, 3))
@settings(max_examples=40)
def test_an_epoch_draws_every_sample_once(num_samples: int, batch_size: int, seed: int, epoch: int) -> None:
    order = Order(num_samples=num_samples, batch_size=batch_size, seed=seed)
    first = epoch * order.steps_per_epoch
    batches = list(order.batches(first, first + order.steps_per_epoch))
    drawn = [draw.index for batch in batches for draw in batch]
    assert sorted(drawn) == list(range(num_samples))
    assert {draw.epoch for batch in batches for draw in batch} == {epoch}
    assert all(batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(num_samples=st.integers(1, 30), batch_size=st.integers(1, 5), replicas=st.integers(2, 4))
@settings(max_examples=40)
def test_replicas_share_an_epoch_evenly(num_samples: int, batch_size: int, replicas: int) -> None:
    orders = [
        Order(num_samples=num_samples, batch_size=batch_size, seed=3, num_replicas=replicas, rank=rank)
        for rank in range(replicas)
    ]
    steps = orders[0].steps_per_epoch
    per_step = [[order.batch(step) for order in orders] for step in range(steps)]
    assert all(len({len(batch) for batch in step}) == 1 for step in per_step)
    drawn = [draw for step in per_step for batch in step for draw in batch]
    assert {draw.index for draw in drawn} == set(range(num_samples))
    assert sorted(draw.index for draw in drawn if not draw.repeat) == list(range(num_samples))
    assert len(drawn) - num_samples < replicas


def test_epochs_differ_and_a_later_start_continues_the_same_order() -> None:
    order = Order(num_samples=20, batch_size=3, seed=1)
    whole = list(order.batches(0, 3 * order.steps_per_epoch))
    assert list(order.batches(10, 21)) == whole[10:21]
    epochs = [[draw.index for batch in whole[e * 7 : (e + 1) * 7] for draw in batch] for e in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(Order(num_samples=20, batch_size=3, seed=2).batches(0, 7)) != whole[:7]


@given(shares=st.lists(st.floats(0.1, 5), min_size=1, max_size=4), total=st.integers(4, 200))
def test_stages_divide_the_steps_without_gaps(shares: list[float], total: int) -> None:
    stages = tuple(replace(PROMPTED, share=share) for share in shares)
    found = spans(stages, total)
    assert found[0].start == 0
    assert found[-1].end == total
    assert all(a.end == b.start for a, b in pairwise(found))
    assert all(span.end > span.start for span in found)


def test_shares_are_kept() -> None:
    found = spans((replace(PROMPTED, share=3.0), DECODER_ONLY), 100)
    assert [(span.start, span.end) for span in found] == [(0, 75), (75, 100)]
