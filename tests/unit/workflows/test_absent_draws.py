"""Slices that lack a class are drawn more often where there are too few of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from medmoe_cli.core.imaging.sample import Sample
from medmoe_cli.core.workflows.samples.absent_draws import absent_weights


@dataclass(frozen=True)
class Slices:
    """Slices of which the first ones lack a class."""

    number: int
    lacking: int

    def __len__(self) -> int:
        return self.number

    def key(self, index: int) -> str:
        return str(index)

    def classes(self, index: int) -> tuple[int, ...]:
        return (1,) if index < self.lacking else (1, 2)

    def load(self, index: int, *, seed: int | None) -> Sample:
        raise AssertionError("nothing is read")


def test_they_come_as_often_as_is_wanted() -> None:
    weights = absent_weights(Slices(100, 20), (1, 2), share=0.2)
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert weights[:20].sum() == pytest.approx(0.4)
    assert len(set(weights[:20].tolist())) == len(set(weights[20:].tolist())) == 1


def test_never_more_than_four_times_as_often_as_others() -> None:
    weights = absent_weights(Slices(100, 1), (1, 2), share=0.3)
    assert weights is not None
    assert weights[0] == pytest.approx(4 * weights[1])


@pytest.mark.parametrize(("lacking", "share"), [(60, 0.3), (100, 0.3), (0, 0.3), (10, 0.0)])
def test_otherwise_all_are_drawn_alike(lacking: int, share: float) -> None:
    assert absent_weights(Slices(100, lacking), (1, 2), share=share) is None
