"""SZ-CXR: X-rays that no one annotated, masks with grey edges, palettes, and Kaggle's extra files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.converters.picture_case import COLOURED, SOFT_MASK
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.sz_cxr import WITHOUT_MASK
from medmoe_cli.core.data.index import open_dataset
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import picture_array
from tests.tools.sources_cxr import add_mask, add_xray, lungs, make_cxr, make_kaggle, xray


def test_x_rays_without_masks_are_no_background_layout(tmp_path: Path) -> None:
    source = make_cxr(tmp_path / "in")
    assert recognise(source) == "sz-cxr"
    result = convert(tmp_path, source, "sz-cxr")
    root = result.written.root
    assert names(root / "labelsTr") == ["CHNCXR_0001_0.png", "CHNCXR_0327_1.png"]
    reasons = {one.what: one.why for one in result.written.skipped}
    assert reasons.keys() == {"CHNCXR_0025_0", "CHNCXR_0565_1", "CHNCXR_0100_0", "CHNCXR_0600_1_mask.png"}
    assert all("never annotated" in reasons[case] for case in ("CHNCXR_0025_0", "CHNCXR_0565_1"))
    assert "which the release has, is not here" in reasons["CHNCXR_0100_0"]
    assert reasons["CHNCXR_0600_1_mask.png"] == "a mask without its X-ray"
    assert np.array_equal(picture_array(root / "imagesTr" / "CHNCXR_0001_0_0000.png"), xray(0))
    assert np.array_equal(picture_array(root / "labelsTr" / "CHNCXR_0001_0.png"), lungs(0) // 255)
    assert {case.patient for case in open_dataset(root).training} == {"CHNCXR_0001", "CHNCXR_0327"}
    assert dataset_json(result)["channel_names"] == {"0": "grey"}


def test_palettes_give_their_greys_and_soft_edges_are_cut_at_half_layout(tmp_path: Path) -> None:
    source = make_cxr(tmp_path / "in")
    assert Picture.open(source / "ChinaSet_AllFiles" / "CXR_png" / "CHNCXR_0327_1.png").mode == "P"
    result = convert(tmp_path, source, "sz-cxr")
    root = result.written.root
    assert np.array_equal(picture_array(root / "imagesTr" / "CHNCXR_0327_1_0000.png"), xray(1))
    label = picture_array(root / "labelsTr" / "CHNCXR_0327_1.png")
    assert np.array_equal(label, lungs(1, soft=True) > 127)
    assert (label[38, 28:45] == 1).all()
    assert (label[5, 5:20] == 0).all()
    assert f"{SOFT_MASK} (1 cases)" in result.written.notes


def test_kaggle_copies_and_montgomery_layout(tmp_path: Path) -> None:
    source = make_kaggle(tmp_path / "in")
    result = convert(tmp_path, source, "sz-cxr")
    assert names(result.written.root / "labelsTr") == ["CHNCXR_0002_0.png"]
    reasons = {one.what: one.why for one in result.written.skipped}
    assert reasons.keys() == {"CHNCXR_0036_0", "2 files MCUCXR_*"}
    add_xray(source / "Lung Segmentation" / "test", "CHNCXR_0002_0", seed=3)
    with pytest.raises(DataError, match="different files of one name"):
        convert(tmp_path, source, "sz-cxr", name="other")


def test_masks_must_be_there_and_be_masks_layout(tmp_path: Path) -> None:
    add_xray(tmp_path / "in" / "CXR_png", "CHNCXR_0001_0")
    with pytest.raises(DataError, match=r"X-rays without masks.*yoctoman"):
        convert(tmp_path, tmp_path / "in", "sz-cxr")
    add_mask(tmp_path / "in" / "mask", "CHNCXR_0001_0_mask")
    add_xray(tmp_path / "in" / "CXR_png", "CHNCXR_0002_0", seed=4)
    add_xray(tmp_path / "in" / "mask", "CHNCXR_0002_0_mask", seed=4)  # the X-ray itself, under the mask's name
    result = convert(tmp_path, tmp_path / "in", "sz-cxr")
    ((what, why),) = [(one.what, one.why) for one in result.written.failed]
    assert what == "CHNCXR_0002_0"
    assert "a mask that is no 0/255 mask" in why


def test_a_picture_in_colours_becomes_its_luminance_layout(tmp_path: Path) -> None:
    add_mask(tmp_path / "in" / "mask", "CHNCXR_0001_0_mask")
    colours = np.stack([xray(0), xray(1), xray(2)], axis=-1)
    folder = tmp_path / "in" / "CXR_png"
    folder.mkdir()
    Picture.fromarray(colours).save(folder / "CHNCXR_0001_0.png")
    result = convert(tmp_path, tmp_path / "in", "sz-cxr")
    written = picture_array(result.written.root / "imagesTr" / "CHNCXR_0001_0_0000.png").astype(int)
    expected = np.asarray(Picture.fromarray(colours).convert("L")).astype(int)
    assert np.abs(written - expected).max() <= 1
    assert f"{COLOURED} (1 cases)" in result.written.notes


def test_the_list_of_x_rays_without_masks() -> None:
    assert len(WITHOUT_MASK) == 96
    assert sum(case.endswith("_0") for case in WITHOUT_MASK) == 47
    assert {"CHNCXR_0065_0", "CHNCXR_0220_0", "CHNCXR_0360_1", "CHNCXR_0500_1", "CHNCXR_0505_1"} <= WITHOUT_MASK
    assert not {"CHNCXR_0221_0", "CHNCXR_0501_1", "CHNCXR_0566_1", "CHNCXR_0001_0"} & WITHOUT_MASK


def test_real_x_rays(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "sz_cxr"
    assert recognise(source) == "sz-cxr"
    result = convert(tmp_path, source, "sz-cxr", limit=4)
    root = result.written.root
    assert names(root / "labelsTr") == [f"CHNCXR_000{number}_0.png" for number in (1, 2, 3, 4)]
    assert f"{SOFT_MASK} (4 cases)" in result.written.notes
    assert "11 X-rays with masks, 566 in the whole release; it has no official split" in result.written.notes
    for case in ("CHNCXR_0001_0", "CHNCXR_0004_0"):
        grey = np.asarray(Picture.open(source / "mask" / f"{case}_mask.png"))
        assert np.array_equal(picture_array(root / "labelsTr" / f"{case}.png"), grey > 127)
        assert 0.1 < (grey > 127).mean() < 0.6
        picture = np.asarray(Picture.open(source / "CXR_png" / f"{case}.png"))
        assert np.array_equal(picture_array(root / "imagesTr" / f"{case}_0000.png"), picture)
