"""Decathlon tasks and nnU-Net raw folders become datasets, voxel for voxel."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.index import open_dataset
from tests.tools.converting import convert, dataset_json, names
from tests.tools.datasets import make_dataset, write_nifti
from tests.tools.sources import AFFINE, make_msd, make_nnunet_v1, nifti_array, picture_array, write_json


def test_decathlon_channels_are_split_and_labels_are_whole(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "Task05_Prostate")
    result = convert(tmp_path, source, "msd")
    root = result.written.root
    content = dataset_json(result)
    assert content["channel_names"] == {"0": "T2", "1": "ADC"}
    assert content["labels"] == {"background": 0, "PZ": 1, "TZ": 2}
    assert content["release"] == "1.0 04/05/2018"
    assert content["class_prompts"] == {"PZ": "PZ", "TZ": "TZ"}
    assert "source_values" not in content
    assert names(root / "imagesTr")[:2] == ["prostate_00_0000.nii.gz", "prostate_00_0001.nii.gz"]
    assert names(root / "imagesTs") == ["prostate_90_0000.nii.gz", "prostate_90_0001.nii.gz"]
    for case in ("prostate_00", "prostate_01", "prostate_02"):
        before = nib.load(source / "imagesTr" / f"{case}.nii.gz")
        for channel in (0, 1):
            after = nib.load(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
            assert np.array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj)[..., channel])
            assert after.get_data_dtype() == before.get_data_dtype()
            assert np.array_equal(after.affine, before.affine)
            assert after.header["sform_code"] == before.header["sform_code"] == 1
            assert after.header["qform_code"] == before.header["qform_code"] == 1
            assert after.header.get_xyzt_units()[0] == "mm"
        label = nib.load(root / "labelsTr" / f"{case}.nii.gz")
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(np.asanyarray(label.dataobj), nifti_array(source / "labelsTr" / f"{case}.nii.gz"))
    assert len(open_dataset(root).training) == 3
    assert result.exit_code == 0
    assert [(row.name, row.cases) for row in result.written.classes] == [("PZ", 3), ("TZ", 3)]


def test_missing_pairs_and_unlisted_files_are_named(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", channels=1)
    (source / "labelsTr" / "prostate_01.nii.gz").unlink()
    content = json.loads((source / "dataset.json").read_text())
    content["training"] = content["training"][:2]
    content["modality"] = {"0": "CT"}
    write_json(source / "dataset.json", content)
    written = convert(tmp_path, source, "msd").written
    assert written.training == 1
    skipped = {one.what: one.why for one in written.skipped}
    assert "labelsTr/prostate_01.nii.gz" in skipped["prostate_01"]
    assert skipped["imagesTr/prostate_02.nii.gz"] == "not listed in dataset.json"


def test_validation_pairs_of_amos_become_test_cases(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "amos", channels=1)
    content = json.loads((source / "dataset.json").read_text())
    content["validation"] = [content["training"].pop()]
    content["modality"] = {"0": "CT"}
    write_json(source / "dataset.json", content)
    written = convert(tmp_path, source, "msd").written
    assert names(written.root / "labelsTs") == ["prostate_02.nii.gz"]
    assert (written.training, written.test) == (2, 2)


def test_a_label_on_another_grid_fails_that_case_alone(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", channels=1)
    path = source / "labelsTr" / "prostate_01.nii.gz"
    shifted = AFFINE.copy()
    shifted[:3, 3] += 9
    write_nifti(path, nifti_array(path), shifted)
    result = convert(tmp_path, source, "msd")
    assert result.exit_code == 6
    assert result.written.training == 2
    (failed,) = result.written.failed
    assert failed.what == "prostate_01"
    assert "origin shifted by 15.6 mm" in failed.why
    assert "prostate_01" not in " ".join(names(result.written.root / "imagesTr"))


def test_a_rounded_label_header_is_taken_and_said(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", channels=1)
    path = source / "labelsTr" / "prostate_01.nii.gz"
    rounded = AFFINE.copy()
    rounded[:3, 3] += 0.02
    write_nifti(path, nifti_array(path), rounded)
    result = convert(tmp_path, source, "msd")
    assert [(row.cases, "rounding" in row.what) for row in result.written.grids] == [(1, True)]
    written = nib.load(result.written.root / "labelsTr" / "prostate_01.nii.gz")
    assert np.array_equal(written.affine, nib.load(source / "imagesTr" / "prostate_01.nii.gz").affine)


def test_undeclared_values_fail_the_case(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", channels=1)
    path = source / "labelsTr" / "prostate_02.nii.gz"
    data = nifti_array(path)
    write_nifti(path, np.where(data == 2, 421, data).astype(np.int16), AFFINE)
    (failed,) = convert(tmp_path, source, "msd").written.failed
    assert "421 (4 voxels); declared are 1, 2" in failed.why


def test_nnunet_version_1(tmp_path: Path) -> None:
    source = make_nnunet_v1(tmp_path / "Task501_Two")
    (source / "imagesTr" / "case_001_0001.nii.gz").unlink()
    result = convert(tmp_path, source, "nnunet")
    assert result.format == "nnunet v1"
    assert dataset_json(result)["channel_names"] == {"0": "CT", "1": "PET"}
    assert dataset_json(result)["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    assert (result.written.training, result.written.test) == (1, 1)
    assert ("case_001", "channel 1 (PET) is missing") in [(one.what, one.why) for one in result.written.skipped]


def test_nnunet_version_2_is_copied_voxel_for_voxel(tmp_path: Path) -> None:
    source = make_dataset(tmp_path / "Dataset007_X", cases=3, tests=1, channels=2, cases_per_patient=2, affine=AFFINE)
    write_json(source / "splits_final.json", [{"train": ["case_000", "case_001"], "val": ["case_002"]}])
    result = convert(tmp_path, source, "nnunet")
    root = result.written.root
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        assert names(root / folder) == names(source / folder)
        for name in names(source / folder):
            assert np.array_equal(nifti_array(root / folder / name), nifti_array(source / folder / name))
            assert np.array_equal(nib.load(root / folder / name).affine, nib.load(source / folder / name).affine)
    before, after = open_dataset(source), open_dataset(root)
    assert [case.patient for case in after.training] == [case.patient for case in before.training]
    assert (after.labels, after.channels, after.modality) == (before.labels, before.channels, before.modality)
    assert (root / "splits_final.json").read_text() == (source / "splits_final.json").read_text()


def test_nnunet_label_gaps_are_closed_and_kept_in_source_values(tmp_path: Path) -> None:
    source = make_dataset(tmp_path / "gap", cases=2)
    content = json.loads((source / "dataset.json").read_text())
    content["labels"] = {"background": 0, "organ": 1, "lesion": 40}
    write_json(source / "dataset.json", content)
    for path in (source / "labelsTr").iterdir():
        data, affine = nifti_array(path), nib.load(path).affine
        write_nifti(path, np.where(data == 2, 40, data).astype(np.uint8), affine)
    result = convert(tmp_path, source, "nnunet")
    assert dataset_json(result)["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    assert dataset_json(result)["source_values"] == {"1": [1], "2": [40]}
    written = nifti_array(result.written.root / "labelsTr" / "case_001.nii.gz")
    assert np.array_equal(written == 2, nifti_array(source / "labelsTr" / "case_001.nii.gz") == 40)


def test_nnunet_colour_pictures_stay_one_file(tmp_path: Path) -> None:
    source = make_dataset(tmp_path / "rgb", dims=2, colour=True, cases=2)
    root = convert(tmp_path, source, "nnunet").written.root
    assert names(root / "imagesTr") == names(source / "imagesTr")
    for name in names(source / "imagesTr"):
        assert np.array_equal(picture_array(root / "imagesTr" / name), picture_array(source / "imagesTr" / name))


def test_regions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = make_dataset(tmp_path / "regions")
    content = json.loads((source / "dataset.json").read_text())
    content["labels"] = {"background": 0, "whole": [1, 2], "core": 2}
    write_json(source / "dataset.json", content)
    with pytest.raises(DataError, match="regions whole"):
        convert(tmp_path, source, "nnunet")
    assert not (tmp_path / "ws").exists()
