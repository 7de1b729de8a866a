from __future__ import annotations

import io

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image as Picture

from medmoe_cli.core.reporting.cases import CaseSlice, Sides, draw_case, most_wrong
from medmoe_cli.core.reporting.feature_maps import feature_pictures, principal_colours
from medmoe_cli.core.reporting.palette import EXTRA, MISSED

COLOURS = {1: "#0072B2", 2: "#D55E00"}


def shown(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    picture = np.zeros(reference.shape, np.float32)
    item = CaseSlice(
        title="slice 1 of 1",
        picture=picture,
        reference=reference,
        prediction=prediction,
        pixel_mm=(1.0, 1.0),
        sides=Sides(left="R"),
    )
    png = draw_case([item], names={1: "a", 2: "b"}, colours=COLOURS)
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB")).astype(int)


def amount(picture: np.ndarray, colour: str) -> int:
    """Pixels of a colour laid with 80 % over black, in the panel of differences."""
    wanted = np.array(to_rgb(colour)) * 0.8 * 255
    panel = picture[:, 2 * picture.shape[1] // 3 :]
    return int((np.abs(panel - wanted).max(axis=2) < 6).sum())


def test_what_is_missed_and_what_is_too_much_have_their_colours() -> None:
    square, nothing = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    square[20:40, 20:40] = 1
    missed, extra, equal = shown(square, nothing), shown(nothing, square), shown(square, square)
    assert amount(missed, MISSED) > 1000 > 10 > amount(missed, EXTRA)
    assert amount(extra, EXTRA) > 1000 > 10 > amount(extra, MISSED)
    assert amount(equal, MISSED) == amount(equal, EXTRA) == 0


def test_a_mask_that_touches_the_edge_or_is_empty_can_be_drawn() -> None:
    full, nothing = np.ones((30, 50), np.uint8), np.zeros((30, 50), np.uint8)
    assert shown(full, nothing).shape[1] > 900
    assert shown(nothing, nothing).shape[1] > 900


def test_the_slices_that_differ_most_are_found() -> None:
    reference = np.zeros((6, 8, 8), np.uint8)
    prediction = reference.copy()
    prediction[1, :2], prediction[4, :5], prediction[5, :1] = 1, 1, 1
    assert most_wrong(reference, prediction, limit=2) == [1, 4]
    assert most_wrong(reference, prediction, limit=5) == [1, 4, 5]
    assert most_wrong(reference, reference, limit=3) == []


def test_principal_colours_follow_the_strongest_components() -> None:
    rng = np.random.default_rng(0)
    left = np.repeat([[1.0] * 8 + [-1.0] * 8], 16, axis=0)
    maps = np.stack([5 * left, 0.1 * rng.standard_normal((16, 16)), -5 * left, np.zeros((16, 16))])
    colours = principal_colours(maps)
    assert colours.shape == (16, 16, 3)
    assert abs(colours[:, :8, 0].mean() - colours[:, 8:, 0].mean()) > 0.9  # the two halves are told apart
    np.testing.assert_array_equal(colours, principal_colours(maps))


def test_a_constant_map_is_grey_and_one_channel_is_enough() -> None:
    np.testing.assert_array_equal(principal_colours(np.ones((4, 5, 5))), np.full((5, 5, 3), 0.5))
    scan = np.random.default_rng(0).random((20, 30))
    maps = {"layer 1": np.ones((4, 5, 5)), "attention": np.arange(25.0).reshape(1, 5, 5)}
    pictures = feature_pictures(scan, maps, case="case a, slice 3 of 9")
    assert [picture.name for picture in pictures] == ["features-layers", "features"]
    assert "attention" in pictures[1].alt
    assert all("slice 3 of 9" in picture.caption for picture in pictures)
