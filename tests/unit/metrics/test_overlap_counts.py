"""One pass over a pair of label maps gives every class's counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.metrics.overlap import Counts, count_pairs, present_values
from tests.tools.masks import label_maps


def _one_class(reference: NDArray[np.integer], prediction: NDArray[np.integer], values: tuple[int, ...]) -> Counts:
    left, right = np.isin(reference, values), np.isin(prediction, values)
    return Counts(
        tp=int((left & right).sum()),
        fp=int((~left & right).sum()),
        fn=int((left & ~right).sum()),
        tn=int((~left & ~right).sum()),
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), classes=st.integers(1, 6), fortran=st.booleans())
def test_equals_a_pass_per_class(seed: int, classes: int, fortran: bool) -> None:
    reference, prediction = label_maps(seed, (9, 8, 7), classes=classes)
    if fortran:
        reference, prediction = np.asfortranarray(reference), np.asfortranarray(prediction)
    pairs = count_pairs(reference, prediction)
    for value in range(classes + 2):
        assert pairs.of((value,)) == _one_class(reference, prediction, (value,))
    assert pairs.of((1, classes)) == _one_class(reference, prediction, (1, classes))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_types_and_sparse_values(dtype: type[np.integer]) -> None:
    values = np.array([0, 3, 120, 205]).astype(dtype)
    random = np.random.default_rng(1)
    reference, prediction = random.choice(values, 1000), random.choice(values, 1000)
    pairs = count_pairs(reference, prediction)
    for value in (3, 120, 205, 7):
        assert pairs.of((value,)) == _one_class(reference, prediction, (value,))


def test_values_too_large_for_a_table() -> None:
    reference = np.array([0, 5_000_000, 5_000_000, 7], np.int32)
    prediction = np.array([0, 5_000_000, 7, 7], np.int32)
    assert count_pairs(reference, prediction).of((5_000_000,)) == Counts(tp=1, fp=0, fn=1, tn=2)


def test_more_voxels_than_a_block() -> None:
    reference = np.zeros((300, 300, 3), np.uint8)
    reference[10:200, 30:290, 1:] = 2
    prediction = np.roll(reference, 5, axis=0)
    assert count_pairs(reference, prediction).of((2,)) == _one_class(reference, prediction, (2,))


def test_ignored_voxels_count_nowhere() -> None:
    reference, prediction = np.array([1, 1, 9, 9, 0]), np.array([1, 0, 1, 0, 1])
    counts = count_pairs(reference, prediction, ignore=9).of((1,))
    assert counts == Counts(tp=1, fp=1, fn=1, tn=0)


def test_refuses_what_is_no_label_map() -> None:
    with pytest.raises(ValueError, match="shapes"):
        count_pairs(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(ValueError, match="negative"):
        count_pairs(np.array([-1, 0]), np.array([0, 0]))


def test_present_values() -> None:
    assert present_values(np.array([0, 4]), np.array([9, 9])).tolist() == [0, 4, 9]
    assert present_values(np.zeros((0, 3), int)).tolist() == []
