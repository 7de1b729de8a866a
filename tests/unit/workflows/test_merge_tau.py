"""`--tau auto` by hand: what is best, what is tolerated, and what happens where nothing is."""

from __future__ import annotations

import pytest

from medmoe_cli.core.workflows.merging.tau import GRID, NEVER, TOLERATED, Seen, choose_tau, point


def general_task(share: float, *, loses: float, task: int = 1) -> Seen:
    return Seen(task=task, is_general=True, share=share, general=0.8, fused=0.8 - loses)


def own_task(share: float, *, gains: float, task: int = 2) -> Seen:
    return Seen(task=task, is_general=False, share=share, general=0.4, fused=0.4 + gains)


def test_a_clear_gate_gets_the_papers_threshold() -> None:
    chosen = choose_tau([general_task(0.02, loses=0.3), own_task(0.98, gains=0.4)])
    assert chosen.tau == 0.5
    assert [one.tau for one in chosen.curve] == [*GRID, NEVER]


def test_the_threshold_rises_above_a_general_query_that_would_be_forgotten() -> None:
    seen = [general_task(0.72, loses=0.3), own_task(0.9, gains=0.4)]
    assert choose_tau(seen).tau == 0.75
    assert point(seen, 0.7).forgetting == pytest.approx(-0.3)


def test_the_threshold_falls_to_let_an_unsure_expert_in() -> None:
    assert choose_tau([general_task(0.05, loses=0.3), own_task(0.31, gains=0.4)]).tau == 0.3


def test_a_gain_does_not_pay_for_forgetting_beyond_the_tolerated() -> None:
    seen = [general_task(0.6, loses=TOLERATED + 0.002), own_task(0.55, gains=0.5)]
    chosen = choose_tau(seen)
    assert chosen.tau == 0.6
    assert point(seen, chosen.tau).forgetting == 0


def test_a_little_forgetting_is_tolerated() -> None:
    assert choose_tau([general_task(0.6, loses=TOLERATED - 0.002), own_task(0.55, gains=0.5)]).tau == 0.5


def test_no_expert_joins_where_every_threshold_forgets() -> None:
    chosen = choose_tau([general_task(0.999, loses=0.5), own_task(0.9995, gains=0.1)])
    assert chosen.tau == NEVER
    assert "no expert joins" in chosen.why
    assert chosen.curve[-1].opened == 0


def test_tasks_count_alike_however_many_samples_they_have() -> None:
    seen = [own_task(0.9, gains=0.6, task=2), *[own_task(0.1, gains=-0.2, task=3) for _ in range(9)]]
    assert point(seen, 0.5).dice == pytest.approx((1.0 + 0.4) / 2)
    assert point(seen, 0.5).opened == pytest.approx(0.1)
