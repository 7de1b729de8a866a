"""VolumeSource: a window per class and case that holds the class, the same whoever cuts it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.objects import find_labelled
from medmoe_cli.core.data.store import CaseRecord, Store
from medmoe_cli.core.data.volume_source import VolumeSource, window_start
from medmoe_cli.core.imaging.sample import Sample
from tests.tools.plans import slice_plan
from tests.tools.volumes import write_volume

SIDE = 16
OFF = {f"{name}_probability": 0.0 for name in ("rotation", "scale", "mirror", "gamma", "brightness", "contrast")}
ZSCORE = (ChannelPlan(name="MR", normalization="zscore"),)


def plan(**options: object) -> Plan:
    return slice_plan(input_size=SIDE, spacing_mm=(1.5, 1.5, 1.5), channels=ZSCORE, **options)  # type: ignore[arg-type]


def stored(folder: Path) -> tuple[Store, dict[str, CaseRecord]]:
    """'a' smaller than a window, 'b' with an object longer than one and a crumb, 'c' without a label."""
    store = Store(folder=folder)
    return store, {
        "a": write_volume(store, "a", (9, 12, 10), {1: [((2, 5), (3, 8), (1, 6))], 2: [((6, 9), (9, 12), (7, 10))]}),
        "b": write_volume(
            store,
            "b",
            (40, 34, 70),
            {1: [((3, 38), (20, 24), (30, 34)), ((36, 39), (2, 24), (30, 34))], 2: [((5, 7), (5, 7), (60, 62))]},
        ),
        "c": write_volume(store, "c", (20, 20, 20), {}),
    }


def source(folder: Path, **options: object) -> VolumeSource:
    store, records = stored(folder)
    arguments = {"store": store, "records": records, "cases": ["b", "a", "c"], "plan": plan()}
    return VolumeSource(**{**arguments, **options})  # type: ignore[arg-type]


def equal(one: Sample, other: Sample) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("image", "label", "valid"))


def test_one_sample_for_each_class_of_each_case(tmp_path: Path) -> None:
    found = source(tmp_path)
    assert [found.key(index) for index in range(len(found))] == ["b:1", "a:1", "a:2"]
    assert found.num_left_out == 1  # 8 voxels
    assert len(source(tmp_path, min_voxels=8)) == 4
    for index in range(len(found)):
        case, _, value = found.key(index).partition(":")
        sample = found.load(index, seed=None)
        assert found.classes(index) == sample.asked == (int(value),)
        assert (sample.case_id, sample.index, sample.owner) == (case, 0, 0)
        assert sample.image.shape == (1, SIDE, SIDE, SIDE)
        assert sample.label is not None
        assert int(value) in sample.label
        assert (sample.image[0][~sample.valid] == 0).all()
        assert (sample.label[~sample.valid] == 0).all()


def test_without_a_seed_the_object_is_in_the_middle(tmp_path: Path) -> None:
    found = source(tmp_path, cases=["a"])
    sample = found.load(0, seed=None)
    assert sample.label is not None
    places = np.argwhere(sample.label == 1)
    assert (places.min(axis=0) + places.max(axis=0) + 1 - SIDE <= 1).all()
    assert (places.min(axis=0) + places.max(axis=0) + 1 - SIDE >= -1).all()
    assert sample.valid.sum() == 9 * 12 * 10  # all of the small volume is in sight
    assert equal(sample, found.load(0, seed=None))


def test_a_seed_moves_the_window_and_nothing_else_does(tmp_path: Path) -> None:
    found = source(tmp_path)
    copy: VolumeSource = pickle.loads(pickle.dumps(found))
    for index in range(len(found)):
        starts = set()
        for seed in range(12):
            sample = found.load(index, seed=seed)
            assert equal(sample, copy.load(index, seed=seed))
            starts.add(tuple(np.argwhere(sample.valid)[0]) + tuple(np.argwhere(sample.valid)[-1]))
        assert len(starts) > 3 or found.key(index).startswith("b")
        assert not all(equal(found.load(index, seed=seed), found.load(index, seed=None)) for seed in range(12))


@settings(max_examples=80, deadline=None)
@given(
    start=st.tuples(*[st.integers(0, 30)] * 3),
    size=st.tuples(*[st.integers(1, 40)] * 3),
    side=st.sampled_from([8, 16, 32]),
    seed=st.one_of(st.none(), st.integers(0, 2**32)),
    share=st.sampled_from([1.0, 0.1]),
)
def test_a_window_holds_its_object_or_a_part_of_a_larger_one(
    start: tuple[int, int, int], size: tuple[int, int, int], side: int, seed: int | None, share: float
) -> None:
    box = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    label = np.zeros((72, 72, 72), np.uint8)
    label[box] = np.random.default_rng(sum(size)).random(size) < share
    label[start] = 1
    found = find_labelled(label)[1]
    place = window_start(found, side, rng=None if seed is None else generator(seed))
    inside = np.pad(label, 72)[tuple(slice(72 + p, 72 + p + side) for p in place)]
    assert inside.any()
    if all(b - a <= side for a, b in zip(found.start, found.stop, strict=True)):
        assert inside.sum() == label.sum()
        middle = [(a + b - side) // 2 for a, b in zip(found.start, found.stop, strict=True)]
        assert all(abs(p - m) <= side // 4 for p, m in zip(place, middle, strict=True))
    for p, a, b in zip(place, found.start, found.stop, strict=True):
        if b - a > side:  # no padding amid an object
            assert a <= p <= b - side


def test_large_objects_are_seen_in_many_parts(tmp_path: Path) -> None:
    found = source(tmp_path, cases=["b"])
    _, records = stored(tmp_path)
    starts = {window_start(records["b"].objects[1], SIDE, rng=generator(seed)) for seed in range(40)}
    assert len({start[0] for start in starts}) > 8
    sample = found.load(0, seed=None)
    assert sample.label is not None
    assert (sample.label == 1).any()


def test_sides_that_change_places_are_asked_for_by_their_new_names(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record = write_volume(store, "k", (12, 12, 16), {1: [((4, 8), (4, 8), (1, 5))], 2: [((4, 8), (4, 8), (11, 15))]})
    sided = plan(mirror_axes=("x",)).model_copy(update={"mirror_swaps": {"x": ((1, 2),)}})
    always = AugmentConfig(**{**OFF, "mirror_probability": 1.0, "noise_probability": 0.0, "blur_probability": 0.0})
    arguments = {"store": store, "records": {"k": record}, "cases": ["k"], "plan": sided}
    mirrored = VolumeSource(**arguments, augment=always)  # type: ignore[arg-type]
    plain = VolumeSource(**arguments)  # type: ignore[arg-type]
    for index, value in enumerate((1, 2)):
        before, after = plain.load(index, seed=3), mirrored.load(index, seed=3)
        assert before.label is not None
        assert after.label is not None
        assert before.asked == (value,)
        assert after.asked == (3 - value,)
        assert ((before.label == value)[:, :, ::-1] == (after.label == 3 - value)).all()
        assert (before.image[..., ::-1] == after.image).all()
        assert mirrored.classes(index) == (value,)


def test_augmented_windows_keep_their_range_and_their_labels(tmp_path: Path) -> None:
    always = AugmentConfig(**dict.fromkeys(OFF, 1.0), noise_probability=1.0, blur_probability=1.0)
    found = source(tmp_path, augment=always, plan=plan(mirror_axes=("x", "y", "z")))
    off = source(tmp_path, augment=AugmentConfig(enabled=False))
    for index in range(len(found)):
        before, after = off.load(index, seed=9), found.load(index, seed=9)
        assert not equal(before, after)
        assert equal(after, found.load(index, seed=9))
        assert after.image.min() < 0  # standardised values are not clipped to [0, 1]
        assert set(np.unique(after.label)) <= {0, 1, 2}  # type: ignore[arg-type]
        assert (after.image[0][~after.valid] == 0).all()
        assert after.image.dtype == np.float32


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled object"):
        source(tmp_path, cases=["c"])


def test_damage_is_found_when_it_is_read(tmp_path: Path) -> None:
    found = source(tmp_path, cases=["a"])
    (tmp_path / "a.b2nd").unlink()
    with pytest.raises(DataError, match="damaged"):
        found.load(0, seed=None)
