"""SliceSource: which slices, under which names, and the same sample whoever loads it."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.source import SliceSource
from medmoe_cli.core.data.store import CaseRecord, Store, Writing
from medmoe_cli.core.imaging.sample import Sample
from tests.tools.plans import slice_plan

SIZE = 32
ALWAYS = AugmentConfig(rotation_probability=1.0, scale_probability=1.0, noise_probability=1.0, gamma_probability=1.0)


def stored(folder: Path) -> tuple[Store, dict[str, CaseRecord]]:
    """Three cases: 'a' with labels on slices 1, 2 and 4 of 6, 'b' on all of 2, 'c' on none of 20."""
    store = Store(folder=folder)
    records = {}
    for number, (case, present) in enumerate(
        {"a": [(), (1,), (1, 2), (), (2,), ()], "b": [(2,), (1,)], "c": [()] * 20}.items()
    ):
        random = np.random.default_rng(number)
        writing = Writing(
            case=case, key="k", shape=(len(present), 1, SIZE, SIZE), valid_shape=(SIZE, 28), spacing_mm=(1.0, 1.0)
        )
        for values in present:
            label = np.zeros((SIZE, SIZE), np.uint8)
            for value in values:
                label[4 * value : 4 * value + 6, 6:20] = value
            writing.add(random.random((1, SIZE, SIZE), dtype=np.float32), label)
        records[case] = store.write(writing)
    return store, records


def source(folder: Path, **options: object) -> SliceSource:
    store, records = stored(folder)
    arguments = {"store": store, "records": records, "cases": ["b", "a", "c"], "plan": slice_plan(input_size=SIZE)}
    return SliceSource(**{**arguments, **options})  # type: ignore[arg-type]


def equal(one: Sample, other: Sample) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.label, other.label)  # type: ignore[arg-type]
        and np.array_equal(one.valid, other.valid)
        and (one.case_id, one.index) == (other.case_id, other.index)
    )


def test_labelled_slices_in_the_order_of_the_cases(tmp_path: Path) -> None:
    found = source(tmp_path)
    assert [found.key(index) for index in range(len(found))] == ["b:0", "b:1", "a:1", "a:2", "a:4"]
    assert [found.classes(index) for index in range(len(found))] == [(2,), (1,), (1,), (1, 2), (2,)]
    for index in range(len(found)):
        sample = found.load(index, seed=None)
        assert f"{sample.case_id}:{sample.index}" == found.key(index)
        assert sample.label is not None
        assert tuple(np.unique(sample.label[sample.label > 0])) == found.classes(index)
        assert sample.label.dtype == np.uint8
        assert sample.image.dtype == np.float32
        assert sample.valid.sum() == SIZE * 28


def test_empty_slices_are_taken_along_by_fraction(tmp_path: Path) -> None:
    found = source(tmp_path, empty_fraction=0.6)
    empty = [found.key(index) for index in range(len(found)) if not found.classes(index)]
    assert len(empty) == 3
    again = source(tmp_path, empty_fraction=0.6)
    assert [again.key(index) for index in range(len(again))] == [found.key(index) for index in range(len(found))]
    assert found.num_empty == 3
    assert len(source(tmp_path, empty_fraction=100)) == 28
    assert len(source(tmp_path, empty_fraction=None)) == 28
    assert source(tmp_path, empty_fraction=None).num_empty == 23


def test_neighbours_are_channels_and_edges_are_repeated(tmp_path: Path) -> None:
    alone = source(tmp_path, empty_fraction=None)
    amid = source(tmp_path, empty_fraction=None, plan=slice_plan(input_size=SIZE, context_slices=2))
    at = {alone.key(index): index for index in range(len(alone))}
    for key, index in at.items():
        case, _, place = key.partition(":")
        last = {"a": 5, "b": 1, "c": 19}[case]
        neighbours = [min(max(int(place) + offset, 0), last) for offset in (-2, -1, 0, 1, 2)]
        expected = np.concatenate([alone.load(at[f"{case}:{one}"], seed=None).image for one in neighbours])
        sample = amid.load(index, seed=None)
        assert (sample.image == expected).all()
        assert (sample.label == alone.load(index, seed=None).label).all()


def test_no_labelled_slice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled slice"):
        source(tmp_path, cases=["c"])


def test_no_augmentation_without_a_seed_or_when_it_is_off(tmp_path: Path) -> None:
    plain, augmenting = source(tmp_path), source(tmp_path, augment=ALWAYS)
    off = source(tmp_path, augment=AugmentConfig(enabled=False))
    for index in range(len(plain)):
        assert equal(plain.load(index, seed=5), plain.load(index, seed=None))
        assert equal(augmenting.load(index, seed=None), plain.load(index, seed=None))
        assert equal(off.load(index, seed=5), plain.load(index, seed=None))
        assert not equal(augmenting.load(index, seed=5), plain.load(index, seed=None))


def _load(task: tuple[bytes, int, int]) -> Sample:
    pickled, index, seed = task
    found: SliceSource = pickle.loads(pickled)
    return found.load(index, seed=seed)


def test_processes_change_nothing(tmp_path: Path) -> None:
    found = source(tmp_path, augment=ALWAYS, plan=slice_plan(input_size=SIZE, mirror_axes=("horizontal",)))
    tasks = [(index, 100 * index + draw) for index in range(len(found)) for draw in range(3)]
    here = [found.load(index, seed=seed) for index, seed in tasks]
    pickled = pickle.dumps(found)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        there = pool.map(_load, [(pickled, index, seed) for index, seed in reversed(tasks)], chunksize=1)
    assert all(map(equal, here, reversed(there)))
    assert len(pickled) < 20_000
