"""Augmentation: a function of sample and seed, labels keep their values, padding stays padding."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.augment import Augment
from medmoe_cli.core.imaging.sample import Sample

NOTHING = {
    f"{name}_probability": 0.0
    for name in ("rotation", "scale", "elastic", "shift", "mirror", "gamma", "brightness", "contrast", "noise", "blur")
}
EVERYTHING = AugmentConfig(**dict.fromkeys(NOTHING, 1.0))
SIZE = 48


def sample(seed: int = 0, *, channels: int = 2, dtype: type[np.integer] = np.uint8) -> Sample:
    draw = np.random.default_rng(seed)
    valid = np.zeros((SIZE, SIZE), bool)
    valid[: SIZE - 8] = True
    label = np.zeros((SIZE, SIZE), dtype)
    label[8:20, 5:30], label[22:34, 12:40] = 3, 200
    image = draw.random((channels, SIZE, SIZE), dtype=np.float32) * 0.3 + (label / 400.0).astype(np.float32)
    return Sample(image=image * valid, label=label, valid=valid, case_id="a", index=4)


def same(one: Sample, other: Sample) -> bool:
    assert one.label is not None
    assert other.label is not None
    return bool(
        (one.image == other.image).all() and (one.label == other.label).all() and (one.valid == other.valid).all()
    )


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**63 - 1),
    what=st.sampled_from([*NOTHING, "everything"]),
    mirror=st.sampled_from([(), ("horizontal",), ("vertical",), ("horizontal", "vertical")]),
)
def test_labels_take_no_new_values(seed: int, what: str, mirror: tuple[str, ...]) -> None:
    config = EVERYTHING if what == "everything" else AugmentConfig(**{**NOTHING, what: 1.0})
    before = sample(dtype=np.uint16)
    after = Augment(config, mirror_axes=mirror)(before, seed)
    assert after.label is not None
    assert after.label.dtype == np.uint16
    assert set(np.unique(after.label)) <= {0, 3, 200}
    assert after.image.dtype == np.float32
    assert after.image.shape == before.image.shape
    assert after.image.min() >= 0
    assert after.image.max() <= 1
    assert (after.image[:, ~after.valid] == 0).all()
    assert (after.label[~after.valid] == 0).all()
    assert (after.case_id, after.index) == ("a", 4)
    assert same(before, sample(dtype=np.uint16)), "the input was changed"


def test_a_sample_depends_on_its_seed_alone() -> None:
    augment = Augment(EVERYTHING, mirror_axes=("horizontal",))
    first = [augment(sample(), seed) for seed in range(12)]
    np.random.random(3)  # noqa: NPY002
    random.seed(99)
    assert all(same(first[seed], augment(sample(), seed)) for seed in reversed(range(12)))
    assert all(
        same(first[seed], Augment(EVERYTHING, mirror_axes=("horizontal",))(sample(), seed)) for seed in (5, 0, 11)
    )
    with ThreadPoolExecutor(4) as threads:
        assert all(map(same, first, threads.map(lambda seed: augment(sample(), seed), range(12))))
    assert len({one.image.tobytes() for one in first}) == 12


def test_the_global_generators_are_left_alone() -> None:
    kept, kept_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    Augment(EVERYTHING, mirror_axes=("horizontal",))(sample(), 7)
    now = np.random.get_state()  # noqa: NPY002
    assert (now[1] == kept[1]).all()
    assert now[2:] == kept[2:]
    assert random.getstate() == kept_python


def test_off_is_the_identity() -> None:
    augment = Augment(AugmentConfig(**NOTHING), mirror_axes=("horizontal",))
    assert all(same(augment(sample(), seed), sample()) for seed in range(5))


@pytest.mark.parametrize(("direction", "axis"), [("vertical", -2), ("horizontal", -1)])
def test_mirroring_is_along_the_plans_axes_and_as_often_as_asked(direction: str, axis: int) -> None:
    before = sample()
    always = Augment(AugmentConfig(**{**NOTHING, "mirror_probability": 1.0}), mirror_axes=(direction,))
    after = always(before, 0)
    assert (after.image == np.flip(before.image, axis)).all()
    assert (after.valid == np.flip(before.valid, axis)).all()
    never = Augment(AugmentConfig(**{**NOTHING, "mirror_probability": 1.0}), mirror_axes=())
    assert same(never(before, 0), before)
    half = Augment(AugmentConfig(**{**NOTHING, "mirror_probability": 0.5}), mirror_axes=(direction,))
    flipped = sum(not same(half(before, seed), before) for seed in range(400))
    assert 150 < flipped < 250


def test_image_label_and_valid_move_together() -> None:
    config = AugmentConfig(**{**NOTHING, "rotation_probability": 1.0, "rotation_degrees": 90.0})
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[10:30, 14:38] = 1
    before = Sample(
        image=label[None].astype(np.float32), label=label, valid=np.ones(label.shape, bool), case_id="a", index=0
    )
    for seed in range(8):
        after = Augment(config, mirror_axes=())(before, seed)
        assert after.label is not None
        disagreement = np.abs(after.image[0] - after.label) > 0.5
        assert disagreement.mean() < 0.01
        assert 0.5 < after.label.sum() / label.sum() < 1.2


@given(seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_a_shifted_picture_is_the_same_a_few_pixels_away(seed: int) -> None:
    most = 6  # an eighth of 48 pixels
    before = replace(sample(), valid=np.ones((SIZE, SIZE), bool))
    config = AugmentConfig(**{**NOTHING, "shift_probability": 1.0, "shift": most / SIZE})
    after = Augment(config, mirror_axes=())(before, seed)
    assert before.label is not None
    found = []
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            moved = np.roll(before.image, (down, right), (1, 2))
            inside = np.roll(np.pad(np.ones((SIZE, SIZE), bool), most), (down, right), (0, 1))[most:-most, most:-most]
            if (after.valid == inside).all() and (after.image == moved * inside).all():
                assert after.label is not None
                assert (after.label == np.roll(before.label, (down, right), (0, 1)) * inside).all()
                found.append((down, right))
    assert len(found) == 1


def test_values_kept_as_they_are_may_leave_the_unit_range() -> None:
    config = AugmentConfig(**{**NOTHING, "brightness_probability": 1.0, "brightness": 0.5})
    bright = Sample(
        image=np.full((1, 8, 8), 5.0, np.float32), label=None, valid=np.ones((8, 8), bool), case_id="a", index=0
    )
    assert Augment(config, mirror_axes=(), unit_range=False)(bright, 3).image.max() > 1
    after = Augment(config, mirror_axes=())(bright, 3)
    assert after.image.max() == 1
    assert after.label is None


DIRECTIONS = {"vertical": -2, "horizontal": -1}


def sided(seed: int) -> Sample:
    """Labels 0 to 7 and a large one, anywhere."""
    draw = np.random.default_rng(seed)
    label = draw.choice(np.array([0, 1, 2, 3, 4, 5, 6, 7, 40_000], np.uint16), (10, 14))
    valid = np.ones(label.shape, bool)
    valid[:, 11:] = False
    image = draw.random((2, *label.shape), dtype=np.float32) * valid
    return Sample(image=image, label=label * valid, valid=valid, case_id="a", index=0)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    axes=st.lists(st.sampled_from([*DIRECTIONS]), min_size=1, unique=True),
    order=st.permutations(range(1, 8)),
    num_pairs=st.integers(0, 3),
)
def test_sides_change_places_in_the_mirror(seed: int, axes: list[str], order: list[int], num_pairs: int) -> None:
    pairs = tuple((order[2 * pair], order[2 * pair + 1]) for pair in range(num_pairs))
    mirror = Augment(
        AugmentConfig(**{**NOTHING, "mirror_probability": 1.0}),
        mirror_axes=tuple(axes),
        mirror_swaps={axes[0]: pairs},
    )
    before = sided(seed)
    once = mirror(before, seed)
    flipped = tuple(DIRECTIONS[axis] for axis in axes)
    assert before.label is not None
    assert once.label is not None
    assert (once.image == np.flip(before.image, flipped)).all()
    assert (once.valid == np.flip(before.valid, flipped)).all()
    becomes = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    for value in np.unique(before.label).tolist():
        there = np.flip(before.label, flipped) == value
        assert (there == (once.label == becomes.get(value, value))).all()
    assert same(mirror(once, seed + 1), before), "twice is not the identity"


def test_only_a_mirrored_axis_swaps() -> None:
    config = AugmentConfig(**{**NOTHING, "mirror_probability": 0.5})
    swapping = Augment(config, mirror_axes=("vertical",), mirror_swaps={"vertical": ((1, 2),), "horizontal": ((3, 4),)})
    before = sided(0)
    kinds = set()
    for seed in range(20):
        after = swapping(before, seed)
        turned = not (after.image == before.image).all()
        assert after.label is not None
        assert before.label is not None
        expected = np.flip(before.label, 0) if turned else before.label
        assert ((after.label == 3) == (expected == 3)).all()
        assert ((after.label == 1) == (expected == (2 if turned else 1))).all()
        kinds.add(turned)
    assert kinds == {False, True}


@pytest.mark.parametrize("what", [*(name for name in NOTHING if not name.startswith("noise")), "all of them"])
def test_neighbouring_slices_are_changed_alike(what: str) -> None:
    chosen = dict.fromkeys(NOTHING, 1.0) if what == "all of them" else {**NOTHING, what: 1.0}
    config = AugmentConfig(**{**chosen, "noise_probability": 0.0})
    augment = Augment(config, mirror_axes=("horizontal",), num_slices=3)
    own = sample(2)
    dark, bright = own.image * 0.5, own.image * 0.8
    pointwise = what.partition("_")[0] in {"gamma", "brightness", "contrast"}
    for seed in range(6):
        after = augment(replace(own, image=np.concatenate([own.image, dark, own.image])), seed).image
        assert after.shape == (6, SIZE, SIZE)
        assert np.array_equal(after[:2], after[4:])
        assert not np.array_equal(after[:2], after[2:4])
        if pointwise:  # one curve for all slices: where two slices are equally bright, they stay so
            dim, lit = own.image.copy(), bright.copy()
            dim[:, 20:, :20] = lit[:, 20:, :20]
            pair = augment(replace(own, image=np.concatenate([dim, lit, dim])), seed).image
            assert np.array_equal(pair[:2, 20:, :20], pair[2:4, 20:, :20])
            assert not np.array_equal(pair[:2, :20], pair[2:4, :20])


def ball(side: int = 32, *, radius: float = 9, shift: float = 0.0) -> Sample:
    """A smooth bright ball about the centre of a volume, moved along z."""
    place = np.indices((side,) * 3) - (side - 1) / 2
    place[0] -= shift
    distance = np.sqrt((place**2).sum(axis=0))
    image = np.exp(-((distance / radius) ** 2)).astype(np.float32)
    label = (distance < radius).astype(np.uint8) * 2
    return Sample(image=image[None], label=label, valid=np.ones(label.shape, bool), case_id="v", index=0, asked=(2,))


def volume_augment(**config: object) -> Augment:
    return Augment(AugmentConfig(**{**NOTHING, **config}), mirror_axes=(), unit_range=False, volumes=True)  # type: ignore[arg-type]


def test_a_ball_that_is_turned_stays_and_its_surroundings_move() -> None:
    centred, off = ball(), ball(shift=5, radius=4)
    turn = volume_augment(rotation_probability=1.0, rotation_degrees=45)
    angles = []
    for seed in range(6):
        after = turn(centred, seed)
        assert after.label is not None
        assert centred.label is not None
        assert ((after.label == 2) != (centred.label == 2)).mean() < 0.01
        np.testing.assert_allclose(after.image[0, 8:24, 8:24, 8:24], centred.image[0, 8:24, 8:24, 8:24], atol=0.02)
        assert not after.valid.all()
        assert after.valid[7:25, 7:25, 7:25].all()
        moved = turn(off, seed)
        place = np.argwhere(moved.label == 2).mean(axis=0) - 15.5
        assert np.linalg.norm(place) == pytest.approx(5, abs=0.4)  # turned about the centre
        assert np.abs(place[1:]).max() > 0.5
        brightest = np.array(np.unravel_index(int(moved.image.argmax()), moved.image.shape)[1:]) - 15.5
        assert np.abs(brightest - place).max() < 1  # image and label together
        angles.append(tuple(place.round(1)))
    assert len(set(angles)) == 6
    assert (np.abs(np.array(angles))[:, 1:].max(axis=0) > 1).all()  # about several axes


def test_a_scaled_ball_keeps_its_place_and_changes_its_size() -> None:
    sizes = set()
    for seed in range(8):
        after = volume_augment(scale_probability=1.0, scale=(0.7, 1.4))(ball(), seed)
        assert after.label is not None
        inside = np.argwhere(after.label == 2)
        np.testing.assert_allclose(inside.mean(axis=0), 15.5, atol=1e-6)
        radius = (3 * len(inside) / (4 * np.pi)) ** (1 / 3)
        assert 9 / 1.4 - 0.3 < radius < 9 / 0.7 + 0.3
        sizes.add(radius > 9)
    assert sizes == {True, False}


def test_volumes_are_moved_elastically_too_and_by_their_seed_alone() -> None:
    for config in ({"elastic_probability": 1.0}, {"rotation_probability": 0.5, "scale_probability": 0.5}):
        augment = volume_augment(**config)
        afters = [augment(ball(), seed) for seed in (1, 2, 3, 4, 1)]
        assert same(afters[0], afters[4])
        assert not all(same(afters[0], other) for other in afters[1:4])
        assert all(after.asked == (2,) for after in afters)
        assert all(set(np.unique(after.label)) <= {0, 2} for after in afters)  # type: ignore[arg-type]
    still = volume_augment()(ball(), 3)
    assert same(still, ball())
