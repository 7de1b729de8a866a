"""Each term of a mask's quality goes the way its name says, and scores compare peers only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from medmoe_cli.core.data.quality import TERM_NAMES, Terms, grey, measure_mask, percentiles, scores


def picture(seed: int = 0, *, object_value: float = 0.8) -> NDArray[np.float32]:
    """A noisy background of 0.4 with a brighter disk."""
    values = 0.4 + 0.05 * np.random.default_rng(seed).standard_normal((64, 80))
    values[disk()] += object_value - 0.4
    return np.clip(values, 0, 1).astype(np.float32)


def disk(radius: float = 12, *, centre: tuple[int, int] = (30, 40)) -> NDArray[np.bool_]:
    rows, cols = np.ogrid[:64, :80]
    return np.asarray((rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2)


def blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(values, sigma), np.float32)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_blur_lowers_clarity(sigma: float) -> None:
    assert measure_mask(blurred(picture(), sigma), disk()).clarity < measure_mask(picture(), disk()).clarity


def test_more_blur_means_less_clarity() -> None:
    found = [measure_mask(blurred(picture(), sigma), disk()).clarity for sigma in (0.5, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


def test_fading_into_the_surroundings_lowers_contrast() -> None:
    found = [measure_mask(picture(object_value=value), disk()).contrast for value in (0.9, 0.7, 0.5, 0.4)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.5, abs=0.02)
    assert found[-1] == pytest.approx(0.0, abs=0.02)


def test_dark_objects_stand_out_as_bright_ones_do() -> None:
    bright, dark = measure_mask(picture(), disk()), measure_mask(1 - picture(), disk())
    assert bright.contrast == pytest.approx(dark.contrast, abs=1e-6)
    assert bright.clarity == pytest.approx(dark.clarity, rel=1e-4)


def test_fewer_grey_levels_lower_entropy() -> None:
    posterised = (np.round(picture() * 4) / 4).astype(np.float32)
    assert measure_mask(posterised, disk()).entropy < measure_mask(picture(), disk()).entropy
    flat = measure_mask(np.full((64, 80), 0.5, np.float32), disk())
    assert (flat.entropy, flat.contrast, flat.clarity) == (0.0, 0.0, 0.0)


def test_uniform_grey_levels_have_all_of_the_entropy() -> None:
    every = np.tile(np.linspace(0, 1, 64, endpoint=False, dtype=np.float32), (64, 1))
    assert measure_mask(every, np.ones((64, 64), bool)).entropy == pytest.approx(1.0)


def test_foreground_is_the_masks_share_of_the_slice() -> None:
    small, large = measure_mask(picture(), disk(4)), measure_mask(picture(), disk(15))
    assert small.foreground == disk(4).sum() / (64 * 80) < large.foreground


def test_regions_are_counted_with_their_corners() -> None:
    two = disk(5, centre=(15, 20)) | disk(5, centre=(45, 60))
    corner = np.zeros((64, 80), bool)
    corner[10, 10] = corner[11, 11] = True
    assert [measure_mask(picture(), mask).regions for mask in (disk(), two, corner)] == [1, 2, 1]


def test_what_is_far_away_changes_nothing_but_the_share() -> None:
    near = picture()
    far = near.copy()
    far[:, 70:] = np.random.default_rng(1).random((64, 10), np.float32)
    assert measure_mask(near, disk()) == measure_mask(far, disk())


def test_a_mask_of_everything_outlines_nothing() -> None:
    assert measure_mask(picture(), np.ones((64, 80), bool)).contrast == 0.0


def test_an_empty_mask_is_a_programmers_error() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        measure_mask(picture(), np.zeros((64, 80), bool))


def test_colour_is_seen_by_its_luminance() -> None:
    colour = np.stack([np.full((2, 2), value, np.float32) for value in (1.0, 0.5, 0.25)])
    assert grey(colour) == pytest.approx(np.full((2, 2), 0.299 + 0.587 * 0.5 + 0.114 * 0.25))
    assert grey(colour[:1]) is not None
    assert (grey(colour[:1]) == 1).all()
    assert grey(colour[:2]) == pytest.approx(np.full((2, 2), 0.75))


def test_the_terms_are_listed_in_the_order_of_the_table() -> None:
    assert tuple(Terms.__dataclass_fields__) == TERM_NAMES


terms = arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.just(5)),
    elements=st.integers(0, 12).map(float),
)


@given(terms)
def test_scores_are_bounded_and_centred(rows: NDArray[np.float64]) -> None:
    found = scores(rows)
    assert ((found > 0) & (found < 1)).all()
    assert found.mean() == pytest.approx(0.5)


@given(terms, st.data())
def test_a_better_term_never_lowers_a_score(rows: NDArray[np.float64], data: st.DataObject) -> None:
    place, term = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 4))
    better = rows.copy()
    better[place, term] += 5 if TERM_NAMES[term] != "regions" else -5
    assert scores(better)[place] >= scores(rows)[place]


@given(terms)
def test_scales_do_not_matter_and_order_does_not_either(rows: NDArray[np.float64]) -> None:
    assert np.array_equal(scores(rows * (1, 10, 0.1, 7, 3)), scores(rows))
    assert np.array_equal(percentiles(rows[::-1]), percentiles(rows)[::-1])


def test_nothing_has_no_scores() -> None:
    assert scores(np.zeros((0, 5))).shape == (0,)
