"""Bootstrap intervals: scipy's for independent cases, wider for cases of the same patient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from medmoe_cli.core.metrics.bootstrap import Interval, mean_intervals


def _interval(values: list[float], patients: list[str], *, seed: int = 0, resamples: int = 2000) -> Interval | None:
    return mean_intervals(np.array(values).reshape(-1, 1, 1), patients, seed=seed, resamples=resamples)[0]


def _names(number: int) -> list[str]:
    return [f"p{index:03d}" for index in range(number)]


_RANDOM = np.random.default_rng(5)
SAMPLES = {
    "symmetric": _RANDOM.normal(0.8, 0.05, 25),
    "skewed": _RANDOM.beta(9, 1, 25),
    # One failure among good cases: here the corrections for bias and skew matter most.
    "one failure": np.append(_RANDOM.normal(0.9, 0.01, 9), 0.1),
    "few": _RANDOM.exponential(1, 6) ** 2,
}


@pytest.mark.parametrize("name", list(SAMPLES))
def test_equals_scipys_bca(name: str) -> None:
    values = SAMPLES[name]
    theirs = bootstrap((values,), np.mean, method="BCa", n_resamples=20000, rng=1).confidence_interval
    ours = _interval(values.tolist(), _names(len(values)), resamples=20000)
    assert ours is not None
    width = theirs.high - theirs.low
    # Two sets of 20000 draws: their percentiles differ by about one percent of the width.
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(12).tolist()
    assert _interval(values, _names(12), seed=3) == _interval(values, _names(12), seed=3)
    assert _interval(values, _names(12), seed=3) != _interval(values, _names(12), seed=4)


def test_cases_of_one_patient_are_drawn_together() -> None:
    """Four copies of each patient's value add no knowledge; taken as independent, they would halve the interval."""
    values = np.random.default_rng(2).normal(0.8, 0.1, 15)
    once = _interval(values.tolist(), _names(15))
    copied = np.repeat(values, 4).tolist()
    together = _interval(copied, [name for name in _names(15) for _ in range(4)])
    apart = _interval(copied, _names(60))
    assert once is not None
    assert together is not None
    assert apart is not None
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=1e-9)
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


def test_one_patient_has_no_interval() -> None:
    assert _interval([0.5, 0.6], ["a", "a"]) is None
    assert _interval([0.5, float("nan")], ["a", "b"]) is None
    assert _interval([float("nan")] * 3, _names(3)) is None


def test_equal_values_have_no_width() -> None:
    assert _interval([0.75] * 6, _names(6)) == Interval(low=0.75, high=0.75)


def test_contains_the_estimate_and_stays_in_range() -> None:
    random = np.random.default_rng(7)
    for _ in range(40):
        values = random.beta(5, 1, 10)
        found = _interval(values.tolist(), _names(10))
        assert found is not None
        assert values.min() <= found.low <= values.mean() <= found.high <= values.max()


def test_undefined_values_are_left_out() -> None:
    values = np.random.default_rng(8).random(10)
    holes = [value if index % 2 else float("nan") for index, value in enumerate(values.tolist())]
    found = _interval(holes, _names(10))
    assert found is not None
    assert values[1::2].min() <= found.low <= values[1::2].mean() <= found.high <= values[1::2].max()


def test_the_mean_over_classes_is_resampled_as_a_whole() -> None:
    """Two classes that balance each other in every case: their mean is known exactly."""
    first = np.random.default_rng(9).random(20)
    values = np.stack([first, 1 - first], axis=1)[:, None, :]
    (found,) = mean_intervals(values, _names(20))
    assert found is not None
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5)
