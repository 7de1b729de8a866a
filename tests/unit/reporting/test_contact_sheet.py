"""Contact sheets: every tile is drawn, the mask's outline lies on the picture, and nothing leaves its square."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from medmoe_cli.core.config.datasheet import ClassFacts, DataSheet, MemberFacts, MissingSource, ModalityFacts
from medmoe_cli.core.reporting.contact_sheet import Block, Tile, draw_contact_sheet
from medmoe_cli.core.reporting.datasheet import datasheet_text

YELLOW = (0xF0, 0xE4, 0x42)


def tile(mask: NDArray[np.bool_], *, colour: bool = False, pixel_mm: tuple[float, float] = (1.0, 1.0)) -> Tile:
    picture = np.full((*mask.shape, 3) if colour else mask.shape, 0.3, np.float32)
    picture[mask] = 0.6
    return Tile(
        title="case_001, slice 3",
        name="kidney",
        score=0.5,
        detail="cl 50",
        picture=picture,
        mask=mask,
        pixel_mm=pixel_mm,
    )


def square(rows: slice, cols: slice, shape: tuple[int, int] = (100, 120)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[rows, cols] = True
    return mask


def drawn(*blocks: Block) -> NDArray[np.uint8]:
    return np.array(Picture.open(io.BytesIO(draw_contact_sheet(blocks, title="hearts"))).convert("RGB"))


def yellow(sheet: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(sheet.astype(int) - YELLOW) < 40).all(axis=2))


def test_each_tile_has_its_outline() -> None:
    masks = [square(slice(40, 60), slice(50, 70)) for _ in range(7)]
    one = drawn(Block(title="best", tiles=tuple(tile(mask) for mask in masks)))
    columns, rows = yellow(one).any(axis=0), yellow(one).any(axis=1)
    assert np.sum(np.diff(columns.astype(int)) == 1) >= 5
    assert np.sum(np.diff(rows.astype(int)) == 1) >= 2


@pytest.mark.parametrize("colour", [False, True])
def test_a_mask_of_the_whole_picture_is_outlined_within_its_tile(colour: bool) -> None:
    sheet = drawn(Block(title="best", tiles=(tile(np.ones((60, 60), bool), colour=colour),)))
    found = np.argwhere(yellow(sheet))
    height, width = found.max(axis=0) - found.min(axis=0)
    assert height == pytest.approx(width, abs=3)
    assert 2.2 * 160 < width < 2.4 * 160


def test_pixels_keep_their_shape_in_mm() -> None:
    mask = square(slice(20, 30), slice(40, 60), (50, 100))
    found = np.argwhere(yellow(drawn(Block(title="best", tiles=(tile(mask, pixel_mm=(2.0, 1.0)),)))))
    height, width = found.max(axis=0) - found.min(axis=0)
    assert height == pytest.approx(width, rel=0.06)


def test_small_masks_are_shown_larger() -> None:
    def side(size: int) -> int:
        mask = square(slice(200, 200 + size), slice(200, 200 + size), (512, 512))
        found = np.argwhere(yellow(drawn(Block(title="best", tiles=(tile(mask),)))))
        return int((found.max(axis=0) - found.min(axis=0))[0])

    assert side(200) == pytest.approx(side(60), abs=4)
    assert side(8) < side(60)


def test_blocks_without_tiles_are_left_out_and_equal_sheets_give_equal_bytes() -> None:
    block = Block(title="best", tiles=(tile(square(slice(10, 20), slice(10, 20))),))
    empty = Block(title="worst", tiles=())
    assert draw_contact_sheet([block, empty], title="a") == draw_contact_sheet([block], title="a")


def sheet(**changes: object) -> DataSheet:
    member = MemberFacts(
        dataset="hearts",
        source="",
        modality="",
        licence="a | b",
        reference="",
        slice_axis="z",
        cases=4,
        cases_selected=3,
        patients=2,
        patients_selected=2,
        images=40,
        images_selected=12,
        masks=90,
        masks_usable=80,
        masks_selected=20,
        masks_excluded=1,
    )
    values: dict[str, object] = {
        "name": "hq",
        "rule": "half of everything",
        "seed": 3,
        "exclusions": "",
        "splits": "9:1",
        "members": (member,),
        "classes": (ClassFacts(name="heart", members={"hearts": 20}, masks=90, selected=20),),
        "modalities": (ModalityFacts(modality="", members=("hearts",), images=12, masks=20),),
        "missing": (),
    }
    return DataSheet.model_validate({**values, **changes})


def test_the_datasheet_says_what_is_there_unknown_and_missing() -> None:
    text = datasheet_text(sheet())
    assert "20 masks on 12 images" in text
    assert "| hearts | no | unknown | 3 of 4 | 2 of 2 | 12 of 40 | 90 | 20 (22.2%) | 1 |" in text
    assert "| hearts | a \\| b |  |" in text
    assert "All twelve" in text
    missing = MissingSource(source="WORD", modality="CT", command="medmoe convert W", obtain="", licence="")
    assert "| WORD | CT | unknown | `medmoe convert W` |" in datasheet_text(sheet(missing=(missing,)))
    assert "masks excluded by veto.txt" in datasheet_text(sheet(exclusions="veto.txt"))
