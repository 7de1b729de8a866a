"""ISIC: three years of folders, official parts, superpixels, texts, and years that share pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medmoe_cli.core.base.errors import ConfigError, MedMoEError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.source import ConvertOptions, Fold
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import picture_array
from tests.tools.sources_isic import FOLDERS, add_picture, make_isic


@pytest.mark.parametrize("year", ["2016", "2017", "2018"])
def test_a_year_with_its_official_parts_layout(tmp_path: Path, year: str) -> None:
    source = make_isic(tmp_path / "in", year)
    assert recognise(source) == "isic"
    result = convert(tmp_path, source, "isic")
    root, validation = result.written.root, [] if year == "2016" else ["ISIC_0000010"]
    training = ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002", *validation]
    assert names(root / "imagesTr") == [f"{case}_0000.png" for case in training]
    assert names(root / "labelsTr") == [f"{case}.png" for case in training]
    assert names(root / "labelsTs") == ["ISIC_0000020.png", "ISIC_0000021.png"]
    assert dataset_json(result)["labels"] == {"background": 0, "lesion": 1}
    assert dataset_json(result)["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert result.exit_code == 0
    pictures, masks, suffix = FOLDERS[year]
    jpg = source / pictures.format("Training") / "ISIC_0000001.jpg"
    assert np.array_equal(picture_array(root / "imagesTr" / "ISIC_0000001_0000.png"), np.asarray(Picture.open(jpg)))
    mask = picture_array(source / masks.format("Training") / f"ISIC_0000001{suffix}.png")
    assert np.array_equal(picture_array(root / "labelsTr" / "ISIC_0000001.png"), mask // 255)
    skipped = {one.what: one.why for one in result.written.skipped}
    assert skipped["ATTRIBUTION.txt, LICENSE.txt"] == "neither picture nor mask"
    assert skipped.get("6 files *_superpixels.png") == ("they are no pictures" if year == "2017" else None)
    size = {"2016": 900, "2017": 2000, "2018": 2594}[year]
    assert f"training: 3 pictures, {size} in the release of {year}" in result.written.notes
    survey = survey_source(source, "isic", ConvertOptions(), workers=1, reporter=Silent())
    assert survey.folds == ((Fold(train=tuple(training[:3]), val=("ISIC_0000010",)),) if validation else ())


def test_years_share_pictures_and_are_never_pooled_layout(tmp_path: Path) -> None:
    make_isic(tmp_path / "in" / "a", "2017")
    make_isic(tmp_path / "in" / "b", "2018")
    with pytest.raises(ConfigError, match="2017 and 2018 share pictures"):
        convert(tmp_path, tmp_path / "in", "isic")
    result = convert(tmp_path, tmp_path / "in", "isic", subset=("2017",))
    assert dataset_json(result)["reference"] == "ISIC challenge 2017, task 1"
    assert dataset_json(result)["licence"] == "unknown"
    for wrong in (("2016",), ("2017", "2018")):
        with pytest.raises(ConfigError, match="no such year"):
            convert(tmp_path, tmp_path / "in", "isic", name="other", subset=wrong)


def test_what_lacks_its_partner_is_left_out_and_named_layout(tmp_path: Path) -> None:
    source = make_isic(tmp_path / "in", "2018")
    add_picture(source, "2018", "Training", 3, mask=False)
    add_picture(source, "2018", "Test", 22, mask=False)
    (source / FOLDERS["2018"][0].format("Validation") / "ISIC_0000010.jpg").unlink()
    result = convert(tmp_path, source, "isic")
    skipped = {one.what: one.why for one in result.written.skipped}
    assert skipped["ISIC_0000003"] == "a training picture without a mask"
    assert skipped["ISIC_0000010_segmentation.png"] == "a validation mask without its picture"
    assert "ISIC_0000022_0000.png" in names(result.written.root / "imagesTs")
    assert names(result.written.root / "labelsTs") == ["ISIC_0000020.png", "ISIC_0000021.png"]
    folder = source / FOLDERS["2018"][0].format("Training")
    shutil.copytree(folder, folder / folder.name)
    with pytest.raises(MedMoEError, match="two files of training ISIC_0000000"):
        convert(tmp_path, source, "isic", name="other")


def test_masks_that_are_none_fail_their_case_layout(tmp_path: Path) -> None:
    source = make_isic(tmp_path / "in", "2018")
    masks = source / FOLDERS["2018"][1].format("Training")
    shape = picture_array(masks / "ISIC_0000000_segmentation.png").shape
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Picture.fromarray(noise).save(masks / "ISIC_0000000_segmentation.png")
    ones = (picture_array(masks / "ISIC_0000001_segmentation.png") > 0).astype(np.uint8)
    Picture.fromarray(ones).save(masks / "ISIC_0000001_segmentation.png")
    small = Picture.open(masks / "ISIC_0000002_segmentation.png").resize((11, 9))
    small.save(masks / "ISIC_0000002_segmentation.png")
    result = convert(tmp_path, source, "isic")
    reasons = {one.what: one.why for one in result.written.failed}
    assert reasons.keys() == {"ISIC_0000000", "ISIC_0000001", "ISIC_0000002"}
    assert "no 0/255 mask" in reasons["ISIC_0000000"]
    assert "its values are 0, 1" in reasons["ISIC_0000001"]
    assert "another grid" in reasons["ISIC_0000002"]
    assert result.exit_code == 6


def test_real_pictures(real_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    shutil.copytree(real_data / "isic" / "images", source / FOLDERS["2018"][0].format("Training"))
    shutil.copytree(real_data / "isic" / "masks", source / FOLDERS["2018"][1].format("Training"))
    result = convert(tmp_path, source, "isic")
    root = result.written.root
    assert names(root / "labelsTr") == ["ISIC_0000193.png", "ISIC_0000494.png"]
    assert not result.written.failed
    for case in ("ISIC_0000193", "ISIC_0000494"):
        picture = np.asarray(Picture.open(real_data / "isic" / "images" / f"{case}.jpg"))
        mask = picture_array(real_data / "isic" / "masks" / f"{case}_segmentation.png")
        assert np.array_equal(picture_array(root / "imagesTr" / f"{case}_0000.png"), picture)
        assert np.array_equal(picture_array(root / "labelsTr" / f"{case}.png"), mask // 255)
