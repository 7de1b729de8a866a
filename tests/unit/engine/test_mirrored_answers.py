"""Mirrored views: the way back is exact, sides change places, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.engine.mirroring import Mirroring
from medmoe_cli.core.nn.prompts import QueryPrompt, collate
from tests.tools.bands import Bands, bands_inference
from tests.tools.oracle import oracle_inference

BOTH = ("horizontal", "vertical")
SIDES = {"horizontal": ((2, 3),)}
NOTHING = collate([QueryPrompt()], mask_size=(16, 16))


def picture(seed: int = 0, size: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, size, size)).astype(np.float32)


@given(
    axes=st.sampled_from([(), ("horizontal",), ("vertical",), BOTH]),
    swapped=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40)
def test_answers_that_agree_come_back_to_the_last_bit(axes: tuple[str, ...], swapped: bool, seed: int) -> None:
    """A network that answers every view alike, mirrored with it, is unchanged by averaging."""
    swaps = {"horizontal": ((1, 2),), "vertical": ((1, 3),)} if swapped else {}
    mirroring = Mirroring(axes=axes, swaps=swaps)
    said = np.random.default_rng(seed).random((2, 4, 5, 6)).astype(np.float32)
    views = [said]
    for axis in axes:  # what the network says about each view, made by numpy
        order = [0, 1, 2, 3]
        for one, other in swaps.get(axis, ()):
            order[one], order[other] = other, one
        views += [np.flip(view[:, order], axis=3 if axis == "horizontal" else 2) for view in views]
    assert len(views) == mirroring.num_views
    merged = mirroring.merge(torch.from_numpy(np.stack(views).copy()))
    np.testing.assert_array_equal(merged.numpy(), said)


@given(
    axes=st.sets(st.sampled_from("xyz")).map(sorted).map(tuple),
    swapped=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40)
def test_volumes_are_mirrored_along_their_own_axes(axes: tuple[str, ...], swapped: bool, seed: int) -> None:
    """Arrays of volumes are (z, y, x): what a network says about each view comes back to the last bit."""
    swaps = {"x": ((1, 2),)} if swapped else {}
    mirroring = Mirroring(axes=axes, swaps=swaps)
    random = np.random.default_rng(seed)
    said, shown = random.random((2, 3, 4, 5, 6)).astype(np.float32), random.random((1, 1, 4, 5, 6)).astype(np.float32)
    views, images = [said], [shown]
    for axis in axes:
        order = [0, 2, 1] if axis in swaps else [0, 1, 2]
        place = "zyx".index(axis) + 2
        views += [np.flip(view[:, order], axis=place) for view in views]
        images += [np.flip(image, axis=place) for image in images]
    assert len(views) == mirroring.num_views
    np.testing.assert_array_equal(mirroring.views(torch.from_numpy(shown)).numpy(), np.stack(images, axis=1))
    merged = mirroring.merge(torch.from_numpy(np.stack(views).copy()))
    np.testing.assert_array_equal(merged.numpy(), said)


def test_a_symmetric_network_answers_the_same_with_mirroring_when_sides_change_places() -> None:
    image = picture()
    plain = bands_inference(Bands(3, sided=True))
    expected = plain.answer(plain.encode([image])[0], NOTHING).probabilities
    mirrored = bands_inference(Bands(3, sided=True), Mirroring(axes=BOTH, swaps=SIDES))
    # A softmax adds its exponentials up in the order of the channels: one rounding's worth of difference.
    found = mirrored.answer(mirrored.encode([image])[0], NOTHING).probabilities
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-7)
    blind = bands_inference(Bands(3, sided=True), Mirroring(axes=BOTH))
    confused = blind.answer(blind.encode([image])[0], NOTHING).probabilities
    assert np.abs(confused - expected).max() > 0.2


def test_the_average_is_that_of_the_mirrored_pictures() -> None:
    image = picture(3)
    single = bands_inference(Bands(2, tilt=4.0))

    def answered(shown: NDArray[np.float32]) -> NDArray[np.float32]:
        return single.answer(single.encode([np.ascontiguousarray(shown)])[0], NOTHING).probabilities

    by_hand = (answered(image) + answered(image[:, :, ::-1])[..., ::-1]) / 2
    mirrored = bands_inference(Bands(2, tilt=4.0), Mirroring(axes=("horizontal",)))
    found = mirrored.answer(mirrored.encode([image])[0], NOTHING).probabilities
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    assert np.abs(found - answered(image)).max() > 0.05


@pytest.mark.parametrize("axes", [(), BOTH])
def test_an_image_is_encoded_with_its_views_and_without_other_images(axes: tuple[str, ...]) -> None:
    mirroring = Mirroring(axes=axes)
    segmenter = Bands(2, tilt=4.0)
    inference = bands_inference(segmenter, mirroring)
    encoded = inference.encode([picture(1), picture(2)])
    assert segmenter.encoded == [mirroring.num_views] * 2
    together = [inference.answer(features, NOTHING) for features in encoded]
    alone = inference.answer(inference.encode([picture(2)])[0], NOTHING)
    np.testing.assert_array_equal(together[1].probabilities, alone.probabilities)
    # Routing is that of the image as it is, whatever was averaged: 4 places.
    assert together[0].routing["feb"].indices.shape[0] == 4


def test_prompted_methods_ignore_mirroring() -> None:
    inference = oracle_inference()
    assert not inference.automatic
    from medmoe_cli.core.engine.inference import Inference

    asked = Inference(
        inference.segmenter,
        compute=inference.compute,
        batch_size=1,
        queries_per_batch=4,
        mirroring=Mirroring(axes=BOTH),
    )
    assert asked.mirroring.num_views == 1
    assert asked.encode([picture()])[0].num_images == 1
