"""BTCV, WORD, AMOS and SegTHOR become datasets; only their layouts are those releases', the voxels are made."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.checked_pair import RESAMPLED
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.release import numbers
from medmoe_cli.core.data.converters.segthor import HEART_IN_AIR, NO_AORTA
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey
from medmoe_cli.core.data.converters.word import _OFFICIAL as WORD_SPLIT
from tests.tools.converting import convert, dataset_json, names
from tests.tools.datasets import write_nifti
from tests.tools.sources import AFFINE, nifti_array
from tests.tools.sources_abdomen import SHAPE, make_amos, make_btcv, make_segthor, make_word, organs, scan


def look(source: Path, format: str, **options: object) -> Survey:
    return survey_source(source, format, ConvertOptions(**options), workers=1, reporter=Silent())  # type: ignore[arg-type]


def same(path: Path, array: np.ndarray) -> None:
    written = nib.load(path)
    assert np.array_equal(np.asanyarray(written.dataobj), array)
    assert np.allclose(written.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("monai", [False, True])
def test_btcv_layout_pairs_by_four_digits(tmp_path: Path, monai: bool) -> None:
    source = make_btcv(tmp_path / "Abdomen", monai=monai)
    assert recognise(source) == "btcv"
    result = convert(tmp_path, source, "btcv")
    root = result.written.root
    assert names(root / "imagesTr") == ["btcv_0001_0000.nii.gz", "btcv_0035_0000.nii.gz"]
    assert names(root / "imagesTs") == ["btcv_0061_0000.nii.gz"]
    assert not (root / "labelsTs").exists()
    for number in (1, 35):
        label = organs(range(1, 14), largest=6, seed=number)
        same(root / "labelsTr" / f"btcv_{number:04d}.nii.gz", label)
        same(root / "imagesTr" / f"btcv_{number:04d}_0000.nii.gz", scan(label, number))
    content = dataset_json(result)
    assert content["modality"] == {"0": "CT"}
    assert content["labels"]["portal_vein_and_splenic_vein"] == 10
    assert content["class_prompts"]["adrenal_gland_left"] == "left adrenal gland"


def test_btcv_layout_fold_and_missing_partners(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1, 2, 21, 35, 40, 61))
    (source / "RawData" / "Training" / "label" / "label0002.nii.gz").unlink()
    (source / "RawData" / "Training" / "img" / "img0021.nii.gz").unlink()
    found = look(source, "btcv")
    (fold,) = found.folds
    assert (fold.train, fold.val) == (("btcv_0001",), ("btcv_0035", "btcv_0040"))
    assert {one.what: one.why for one in found.skipped} == {
        "label0021.nii.gz": "a label without its image",
        "img0002.nii.gz": "a training image without its label",
    }


def test_btcv_layout_remapped_copy_is_refused(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1, 3))
    for number in (1, 3):  # a re-upload has 0-8, where 5 is the liver
        label = organs(range(1, 9), largest=5, seed=number)
        write_nifti(source / "RawData" / "Training" / "label" / f"label{number:04d}.nii.gz", label, AFFINE)
    with pytest.raises(DataError, match=r"another order.*5 has"):
        convert(tmp_path, source, "btcv")


def test_btcv_layout_unknown_value_fails_its_case(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1, 3))
    label = organs(range(1, 15), largest=6)
    write_nifti(source / "RawData" / "Training" / "label" / "label0003.nii.gz", label, AFFINE)
    (failed,) = convert(tmp_path, source, "btcv").written.failed
    assert failed.what == "btcv_0003"
    assert "14" in failed.why


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1,))
    shutil.copy(source / "RawData/Training/img/img0001.nii.gz", source / "img0001.nii.gz")
    with pytest.raises(DataError, match="two files of img 1"):
        look(source, "btcv")


def test_label_header_rounding_uses_the_image_s_header(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1,))
    label = organs(range(1, 14), largest=6, seed=1)
    moved = AFFINE + np.array([[0, 0, 0, 0.02]] * 3 + [[0, 0, 0, 0]])
    write_nifti(source / "RawData/Training/label/label0001.nii.gz", label, moved)
    result = convert(tmp_path, source, "btcv")
    same(result.written.root / "labelsTr" / "btcv_0001.nii.gz", label)
    (row,) = result.written.grids
    assert row.what.startswith("label header differs")
    assert row.cases == 1


def test_label_of_one_shape_elsewhere_is_refused_and_a_finer_one_resampled(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "btcv", (1, 2, 3))
    labels = source / "RawData" / "Training" / "label"
    label = organs(range(1, 14), largest=6, seed=1)
    write_nifti(labels / "label0001.nii.gz", label, AFFINE + np.array([[0, 0, 0, 9.0]] * 3 + [[0, 0, 0, 0]]))
    fine = np.zeros(SHAPE, np.uint8)
    fine[2:10, 2:9, 2:7] = 6
    half = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    doubled = fine.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    write_nifti(labels / "label0002.nii.gz", doubled, half)
    write_nifti(labels / "label0003.nii.gz", doubled, np.diag([1.0, 1, 1, 1]))  # its place was lost
    written = convert(tmp_path, source, "btcv").written
    why = {one.what: one.why for one in written.failed}
    assert "label on another grid" in why["btcv_0001"]
    assert "resampling would lose" in why["btcv_0003"]
    same(written.root / "labelsTr" / "btcv_0002.nii.gz", fine)
    assert (RESAMPLED, 1) in [(row.what, row.cases) for row in written.grids]


def test_word_layout(tmp_path: Path) -> None:
    source = make_word(tmp_path / "data" / "WORD-V0.1.0")
    assert recognise(source) == recognise(source.parent) == "word"
    result = convert(tmp_path, source.parent, "word")
    root = result.written.root
    assert names(root / "labelsTr") == ["word_0001.nii.gz", "word_0002.nii.gz", "word_0003.nii.gz"]
    assert names(root / "labelsTs") == ["word_0014.nii.gz"]
    label = organs(range(1, 17), largest=1, seed=14)
    same(root / "labelsTs" / "word_0014.nii.gz", label)
    assert dataset_json(result)["labels"]["femur_head_right"] == 16
    assert dataset_json(result)["class_prompts"]["femur_head_left"] == "left head of femur"
    (fold,) = look(source, "word").folds
    assert (fold.train, fold.val) == (("word_0002", "word_0003"), ("word_0001",))
    assert [len(WORD_SPLIT[side]) for side in ("training", "validation", "test")] == [100, 20, 30]


def test_word_layout_without_test_labels_and_moved_cases(tmp_path: Path) -> None:
    source = make_word(tmp_path / "WORD-V0.1.0", {"Tr": (2, 14), "Val": (1,), "Ts": (16,)})
    shutil.rmtree(source / "labelsTs")
    found = look(source, "word")
    assert [(case.id, case.split) for case in found.cases if case.split == "Ts"] == [("word_0016", "Ts")]
    assert any("separate archive" in note for note in found.notes)
    assert any("word_0014 (training, officially test)" in note for note in found.notes)
    assert "word_0014" not in {*found.folds[0].train, *found.folds[0].val}


def test_word_layout_with_sam_med3d_masks_is_refused(tmp_path: Path) -> None:
    source = make_word(tmp_path / "ct_WORD", {"Tr": (2, 3)})
    for path in (source / "labelsTr").iterdir():
        write_nifti(path, (nifti_array(path) == 3).astype(np.uint8), AFFINE)
    with pytest.raises(DataError, match=r"another release.*sam-med3d"):
        look(source, "word")


def test_amos_layout_takes_modalities_by_id(tmp_path: Path) -> None:
    source = make_amos(tmp_path / "amos22")
    assert recognise(source) == recognise(tmp_path) == "amos"  # more particular than the Decathlon's layout
    both = convert(tmp_path, source, "amos")
    assert names(both.written.root / "labelsTr") == [f"amos_{n:04d}.nii.gz" for n in (1, 4, 8, 507, 544)]
    assert dataset_json(both)["channel_names"] == {"0": "image"}
    assert "modality" not in dataset_json(both)
    assert any("CT and MR together" in note for note in both.written.notes)
    only = convert(tmp_path, source, "amos", name="mr", subset=("MR",))
    assert names(only.written.root / "imagesTr") == ["amos_0507_0000.nii.gz", "amos_0544_0000.nii.gz"]
    assert dataset_json(only)["modality"] == {"0": "MR"}
    same(only.written.root / "labelsTr" / "amos_0507.nii.gz", organs(range(1, 16), largest=6, seed=507))
    assert dataset_json(only)["labels"]["aorta"] == 8


def test_amos_layout_official_split(tmp_path: Path) -> None:
    source = make_amos(tmp_path / "amos22")
    found = look(source, "amos", subset=("ct",))
    (fold,) = found.folds
    assert (fold.train, fold.val) == (("amos_0001", "amos_0004"), ("amos_0008",))
    assert [case.id for case in found.cases if case.split == "Ts"] == ["amos_0002"]
    assert any("240 or 120" in note for note in found.notes)
    assert not found.skipped  # __MACOSX is no file of the release
    from medmoe_cli.core.data.converters.amos import _OFFICIAL

    for side, ct, mr in (("training", 200, 40), ("validation", 100, 20)):
        listed = _OFFICIAL[side]
        assert (sum(number < 500 for number in listed), sum(number >= 500 for number in listed)) == (ct, mr)
        assert len(set(listed)) == ct + mr
    assert not set(_OFFICIAL["training"]) & set(_OFFICIAL["validation"])


@pytest.mark.parametrize(
    ("subset", "message"), [(("pet",), "unknown --subset 'pet'"), (("mr",), r"no MR here.*there is ct")]
)
def test_amos_layout_unknown_or_absent_parts(tmp_path: Path, subset: tuple[str, ...], message: str) -> None:
    source = make_amos(tmp_path / "amos22")
    for path in [*source.glob("*/amos_05*")]:
        path.unlink()
    with pytest.raises(ConfigError, match=message):
        look(source, "amos", subset=subset)


def test_segthor_layout_takes_only_gt(tmp_path: Path) -> None:
    source = make_segthor(tmp_path / "SegTHOR")
    assert recognise(source) == "segthor"
    result = convert(tmp_path, source, "segthor")
    root = result.written.root
    assert names(root / "labelsTr") == ["Patient_01.nii.gz", "Patient_27.nii.gz", "Patient_40.nii.gz"]
    assert names(root / "imagesTs") == ["Patient_41_0000.nii.gz"]
    same(root / "labelsTr" / "Patient_27.nii.gz", organs((1, 2, 3, 4), largest=2, seed=27))
    assert [one.what for one in result.written.skipped] == ["train/Patient_27/GT2.nii.gz"]
    assert dataset_json(result)["labels"] == {"background": 0, "esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
    assert not [note for note in result.written.notes if HEART_IN_AIR in note or NO_AORTA in note]


def test_segthor_layout_says_what_altered_copies_look_like(tmp_path: Path) -> None:
    source = make_segthor(tmp_path / "SegTHOR")
    label = organs((1, 2, 3), largest=2, seed=1)
    write_nifti(source / "train/Patient_01/GT.nii.gz", label, AFFINE)
    image = nifti_array(source / "train/Patient_27/Patient_27.nii.gz").copy()
    image[:, :4] = -800
    write_nifti(source / "train/Patient_27/Patient_27.nii.gz", image, AFFINE)
    (source / "train/Patient_40/GT.nii").rename(source / "train/Patient_40/GT2.nii")
    written = convert(tmp_path, source, "segthor").written
    assert f"{HEART_IN_AIR} (1 cases)" in written.notes
    assert f"{NO_AORTA} (1 cases)" in written.notes
    assert ("Patient_40", "a training scan without GT.nii.gz beside it") in [(o.what, o.why) for o in written.skipped]


def test_numbers() -> None:
    assert numbers("1,4-7, 9") == (1, 4, 5, 6, 7, 9)
