"""SAM-Med3D's folders, one per class and source dataset, become one dataset of all classes, or of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.index import open_dataset
from tests.tools.converting import convert, dataset_json, lines_of, names
from tests.tools.datasets import write_nifti
from tests.tools.sources import AFFINE, make_msd, make_nnunet_v1, nifti_array
from tests.tools.sources_sam_med3d import add, make_collection, truth


def test_the_classes_are_merged_by_case_in_alphabetical_order(tmp_path: Path) -> None:
    source = make_collection(tmp_path / "data")
    assert recognise(source) == recognise(source / "train") == "sam-med3d"
    result = convert(tmp_path, source, "sam-med3d")
    root = result.written.root
    assert dataset_json(result)["labels"] == {"background": 0, "adrenal": 1, "liver": 2, "spleen": 3}
    assert dataset_json(result)["channel_names"] == {"0": "CT"}
    assert dataset_json(result)["modality"] == {"0": "CT"}
    assert names(root / "imagesTr") == [f"{case}_0000.nii.gz" for case in ("img0001", "word_0025", "word_0030")]
    assert names(root / "imagesTs") == ["word_0041_0000.nii.gz"]
    image, label = truth(0)
    assert np.array_equal(nifti_array(root / "labelsTr" / "word_0025.nii.gz"), label)
    assert np.array_equal(nifti_array(root / "imagesTr" / "word_0025_0000.nii.gz"), image)
    written = nib.load(root / "labelsTr" / "word_0025.nii.gz")
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    without_adrenal = truth(1)[1]
    without_adrenal[without_adrenal == 1] = 0
    assert np.array_equal(nifti_array(root / "labelsTr" / "word_0030.nii.gz"), without_adrenal)
    assert np.array_equal(nifti_array(root / "labelsTs" / "word_0041.nii.gz"), truth(2)[1])
    assert any(note.startswith("ct_BTCV has no folder for adrenal: counted as absent") for note in result.written.notes)
    assert not result.written.failed
    assert len(open_dataset(root).training) == 3


def test_one_class_is_a_binary_dataset_of_its_own_sources(tmp_path: Path) -> None:
    source = make_collection(tmp_path / "data")
    result = convert(tmp_path, source, "sam-med3d", subset=("adrenal",))
    assert dataset_json(result)["labels"] == {"background": 0, "adrenal": 1}
    assert names(result.written.root / "labelsTr") == ["word_0025.nii.gz"]
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "word_0025.nii.gz"), truth(0)[1] == 1)
    assert not [note for note in result.written.notes if "absent" in note]
    with pytest.raises(ConfigError, match="did you mean 'adrenal'"):
        convert(tmp_path, source, "sam-med3d", name="other", subset=("adrenals",))
    with pytest.raises(ConfigError, match="--subset does nothing for --format folder"):
        convert(tmp_path, source / "train" / "liver" / "ct_WORD", "folder", name="other", subset=("liver",))


@pytest.mark.parametrize(("overlap", "winner"), [(None, 2), ("higher", 2), ("lower", 1)])
def test_overlaps_go_to_the_higher_class_and_are_counted(tmp_path: Path, overlap: str | None, winner: int) -> None:
    image, label = truth(0)
    wide = (label == 2) | (label == 1)
    add(tmp_path / "in", "a", "mr_X", "c", image, (label == 1).astype(np.uint8))
    add(tmp_path / "in", "b", "mr_X", "c", image, wide.astype(np.uint8))
    result = convert(tmp_path, tmp_path / "in", "sam-med3d", **({"overlap": overlap} if overlap else {}))
    merged = nifti_array(result.written.root / "labelsTr" / "c.nii.gz")
    assert (merged[label == 1] == winner).all()
    assert (merged[label == 2] == 2).all()
    assert dataset_json(result)["modality"] == {"0": "MR"}
    contested = int((label == 1).sum())
    assert any(note.startswith(f"{contested} voxels claimed by several classes") for note in result.written.notes)


def test_sources_that_number_alike_stay_apart_and_ct_beside_mr_loses_its_window(tmp_path: Path) -> None:
    for number, dataset in enumerate(["ct_A", "mr_B"]):
        image, label = truth(number)
        add(tmp_path / "in", "liver", dataset, "case_1", image, (label == 1).astype(np.uint8))
    result = convert(tmp_path, tmp_path / "in", "sam-med3d")
    assert names(result.written.root / "labelsTr") == ["ct_A_case_1.nii.gz", "mr_B_case_1.nii.gz"]
    assert "modality" not in dataset_json(result)
    assert dataset_json(result)["channel_names"] == {"0": "image"}
    assert any("no Hounsfield window" in note for note in result.written.notes)
    forced = convert(tmp_path, tmp_path / "in", "sam-med3d", name="forced", modality="CT")
    assert dataset_json(forced)["modality"] == {"0": "CT"}


def test_a_mask_without_its_own_image_borrows_that_of_another_class(tmp_path: Path) -> None:
    source = make_collection(tmp_path / "data")
    (source / "train" / "spleen" / "ct_WORD" / "imagesTr" / "word_0025.nii.gz").unlink()
    (source / "train" / "liver" / "ct_WORD" / "labelsTr" / "word_0030.nii.gz").unlink()
    (source / "train" / "liver" / "ct_BTCV" / "imagesTr" / "img0001.nii.gz").unlink()
    (source / "train" / "spleen" / "ct_BTCV" / "imagesTr" / "img0001.nii.gz").unlink()
    result = convert(tmp_path, source, "sam-med3d")
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "word_0025.nii.gz"), truth(0)[1])
    assert {(one.what, one.why.split(":")[0]) for one in result.written.skipped} == {
        ("ct_WORD/word_0030, class liver", "no mask beside its image"),
        ("ct_BTCV/img0001", "a mask without an image"),
    }


def test_what_contradicts_itself_fails_its_case_alone(tmp_path: Path) -> None:
    source = make_collection(tmp_path / "data")
    train = source / "train"
    image, label = truth(0)
    for case in ("other_voxels", "other_grid", "mask_elsewhere", "not_binary", "cut"):
        for name in ("liver", "spleen"):
            add(train, name, "ct_WORD", case, image, (label == 1).astype(np.uint8))
    moved = AFFINE.copy()
    moved[:3, 3] += 5
    spleen = train / "spleen" / "ct_WORD"
    changed = image.copy()
    changed[0, 0, 0] += 1
    write_nifti(spleen / "imagesTr" / "other_voxels.nii.gz", changed, AFFINE)
    write_nifti(spleen / "imagesTr" / "other_grid.nii.gz", image, moved)
    write_nifti(spleen / "labelsTr" / "mask_elsewhere.nii.gz", (label == 1).astype(np.uint8), moved)
    write_nifti(spleen / "labelsTr" / "not_binary.nii.gz", label, AFFINE)
    path = spleen / "labelsTr" / "cut.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    result = convert(tmp_path, source, "sam-med3d")
    reasons = {one.what: one.why for one in result.written.failed}
    assert reasons.keys() == {"other_voxels", "other_grid", "mask_elsewhere", "not_binary", "cut"}
    assert "its voxels are not those of" in reasons["other_voxels"]
    assert "different grids" in reasons["other_grid"]
    assert "label on another grid" in reasons["mask_elsewhere"]
    assert "a mask of several values" in reasons["not_binary"]
    assert result.written.training == 3
    assert result.exit_code == 6


def test_the_same_image_stored_twice_in_other_bytes_is_one(tmp_path: Path) -> None:
    image, label = truth(0)
    add(tmp_path / "in", "a", "ct_X", "c", image, (label == 1).astype(np.uint8) * 255)
    add(tmp_path / "in", "b", "ct_X", "c", image.astype(np.float32), (label == 2).astype(np.uint8))
    result = convert(tmp_path, tmp_path / "in", "sam-med3d")
    expected = np.where(label == 3, 0, label)
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "c.nii.gz"), expected)


def test_other_layouts_are_not_taken_for_it_and_clashes_are_refused(tmp_path: Path) -> None:
    make_msd(tmp_path / "raw" / "tasks" / "Task05")
    make_nnunet_v1(tmp_path / "raw" / "tasks" / "Task06")
    assert recognise(tmp_path / "raw") != "sam-med3d"
    with pytest.raises(DataError, match="not a source of format sam-med3d"):
        convert(tmp_path, tmp_path / "raw", "sam-med3d")
    source = make_collection(tmp_path / "data")
    folder = source / "train" / "liver" / "ct_WORD" / "imagesTr"
    shutil.copy(folder / "word_0025.nii.gz", folder / "word_0025.nii")
    with pytest.raises(DataError, match="two files of case 'word_0025'"):
        convert(tmp_path, source, "sam-med3d")
    (folder / "word_0025.nii").unlink()
    image, label = truth(0)
    add(source / "validation", "liver", "ct_WORD", "word_0025", image, (label == 2).astype(np.uint8), split="Val")
    with pytest.raises(MedMoEError) as caught:
        convert(tmp_path, source, "sam-med3d")
    assert "cases of one name" in lines_of(caught.value)[0]
