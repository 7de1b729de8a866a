"""TotalSegmentator: masks per class that overlap, official parts, headers that are not orthonormal, label maps."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.label_table import label_table
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.source import ConvertOptions, Fold
from medmoe_cli.core.data.converters.totalsegmentator import ALL_EMPTY, FILES_MISSING, OVERLAPPING
from medmoe_cli.core.data.converters.totalsegmentator_classes import CT_V1, CT_V2, MR, order_of
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import nifti_array
from tests.tools.sources_totalsegmentator import (
    SHAPE,
    SHEARED,
    add_subject,
    make_ct,
    organs,
    scan,
    truth,
    write_label_map,
    write_meta,
    write_sform,
)

EMPTY = np.zeros(SHAPE, np.uint8)


def test_subjects_with_their_official_parts_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    assert recognise(source) == "totalsegmentator"
    result = convert(tmp_path, source, "totalsegmentator")
    root = result.written.root
    assert dataset_json(result)["labels"] == {"background": 0, "spleen": 1, "liver": 2, "aorta": 3}
    assert dataset_json(result)["source_values"] == {"1": [1], "2": [5], "3": [52]}
    assert dataset_json(result)["channel_names"] == {"0": "CT"}
    assert dataset_json(result)["licence"] == "CC BY 4.0"
    assert names(root / "labelsTr") == ["s0003.nii.gz", "s0010.nii.gz", "s0011.nii.gz"]
    assert names(root / "labelsTs") == ["s0012.nii.gz"]
    assert np.array_equal(nifti_array(root / "labelsTr" / "s0010.nii.gz"), truth(1))
    assert any(note.startswith("114 classes of its list have no file anywhere") for note in result.written.notes)
    survey = survey_source(source, "totalsegmentator", ConvertOptions(), workers=1, reporter=Silent())
    assert survey.folds == (Fold(train=("s0003", "s0010"), val=("s0011",)),)


def test_headers_that_are_not_orthonormal_come_through_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    with pytest.raises(RuntimeError, match="orthonormal"):
        SimpleITK.ReadImage(str(source / "s0003" / "ct.nii.gz"))
    root = convert(tmp_path, source, "totalsegmentator").written.root
    for path, expected in (("imagesTr/s0003_0000.nii.gz", scan(0)), ("labelsTr/s0003.nii.gz", truth(0))):
        written = nib.load(root / path)
        assert np.array_equal(np.asanyarray(written.dataobj), expected)
        np.testing.assert_allclose(written.affine, SHEARED, atol=1e-6)


@pytest.mark.parametrize(("overlap", "winner"), [(None, 2), ("higher", 2), ("lower", 1)])
def test_masks_that_overlap_are_counted_and_settled_layout(tmp_path: Path, overlap: Any, winner: int) -> None:
    spleen, liver = EMPTY.copy(), EMPTY.copy()
    spleen[2:6], liver[4:9] = 1, 1
    add_subject(tmp_path / "in", "s0001", {"liver": liver, "spleen": spleen})
    options = {} if overlap is None else {"overlap": overlap}
    result = convert(tmp_path, tmp_path / "in", "totalsegmentator", **options)
    label = nifti_array(result.written.root / "labelsTr" / "s0001.nii.gz")
    assert (label[4:6] == winner).all()
    assert (label[2:4] == 1).all()
    assert (label[6:9] == 2).all()
    contested = 2 * SHAPE[1] * SHAPE[2]
    assert any(note.startswith(f"{contested} voxels claimed by several") for note in result.written.notes)
    assert f"{OVERLAPPING} (1 cases)" in result.written.notes


def test_some_classes_of_many_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    broken = source / "s0003" / "segmentations" / "liver.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-20])
    result = convert(tmp_path, source, "totalsegmentator", subset=("aorta", "spleen"))
    assert dataset_json(result)["labels"] == {"background": 0, "spleen": 1, "aorta": 2}
    expected = np.select([truth(0) == 1, truth(0) == 3], [1, 2])
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "s0003.nii.gz"), expected)
    with pytest.raises(ConfigError, match="did you mean 'liver'"):
        convert(tmp_path, source, "totalsegmentator", name="other", subset=("livre",))


def test_what_is_missing_or_empty_is_said_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    (source / "s0003" / "segmentations" / "aorta.nii.gz").unlink()
    add_subject(source, "s0020", dict.fromkeys(("spleen", "liver", "aorta"), EMPTY))
    add_subject(source, "s0021", {})
    (add_subject(source, "s0022", organs(4)) / "ct.nii.gz").unlink()
    result = convert(tmp_path, source, "totalsegmentator")
    assert {one.what: one.why for one in result.written.skipped} == {
        "s0021": "it has no masks: not one file in segmentations/",
        "s0022": "it has no ct.nii.gz or mri.nii.gz",
    }
    notes = result.written.notes
    assert f"{FILES_MISSING} (1 cases)" in notes
    assert f"{ALL_EMPTY} (1 cases)" in notes
    assert "1 subjects are not in meta.csv, they train: s0020" in notes
    without = truth(0)
    without[without == 3] = 0
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "s0003.nii.gz"), without)


def test_what_is_damaged_fails_its_case_alone_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    path = source / "s0003" / "ct.nii.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # the CRC of a gzip file, as in s0864 of release 1
    path.write_bytes(bytes(content))
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(path.read_bytes())
    add_subject(source, "s0045", organs(0))
    write_sform(source / "s0045" / "ct.nii.gz", np.zeros(SHAPE, np.int16), SHEARED)
    write_sform(source / "s0010" / "segmentations" / "liver.nii.gz", truth(1), SHEARED)
    moved = SHEARED.copy()
    moved[:3, 3] += 5
    write_sform(source / "s0011" / "segmentations" / "liver.nii.gz", (truth(2) == 2).astype(np.uint8), moved)
    result = convert(tmp_path, source, "totalsegmentator")
    reasons = {one.what: one.why for one in result.written.failed}
    assert reasons.keys() == {"s0003", "s0010", "s0011", "s0045"}
    assert "s0003" in reasons["s0003"]
    assert "a scan without content" in reasons["s0045"]
    assert "its values are 1, 2, 3, 0 and 1 are expected" in reasons["s0010"]
    assert "label on another grid" in reasons["s0011"]
    assert "s0045: empty or wrong intensities in release 2.0.0, correct in 2.0.1" in result.written.notes
    assert (result.written.training, result.written.test, result.exit_code) == (0, 1, 6)


def test_mr_without_a_validation_part_and_unannotated_subjects_layout(tmp_path: Path) -> None:
    top = tmp_path / "in" / "TotalsegmentatorMRI_dataset_v200"
    classes = ("spleen", "lung_left", "fibula")
    for seed, case in enumerate(["s0001", "s0048", "s0002"]):
        add_subject(top, case, organs(seed, classes), modality="mri", seed=seed)
    add_subject(top, "s0026", dict.fromkeys(classes, EMPTY), modality="mri")
    write_meta(top, {"s0001": "train", "s0048": "train", "s0002": "test", "s0026": "train"})
    assert recognise(tmp_path / "in") == recognise(top) == "totalsegmentator"
    result = convert(tmp_path, tmp_path / "in", "totalsegmentator")
    assert dataset_json(result)["labels"] == {"background": 0, "spleen": 1, "lung_left": 2, "fibula": 3}
    assert dataset_json(result)["source_values"] == {"1": [1], "2": [10], "3": [51]}
    assert dataset_json(result)["licence"] == "CC BY-NC-SA 2.0"
    assert dataset_json(result)["modality"] == {"0": "MR"}
    assert names(result.written.root / "labelsTr") == ["s0001.nii.gz", "s0048.nii.gz"]  # s0048 does have masks here
    assert [one.what for one in result.written.skipped] == ["s0026"]
    assert any("does not have, after the others: fibula" in note for note in result.written.notes)
    survey = survey_source(top, "totalsegmentator", ConvertOptions(), workers=1, reporter=Silent())
    assert survey.folds == ()


def test_meta_csv_is_read_with_care_layout(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "in")
    (source / "meta.csv").unlink()
    result = convert(tmp_path, source, "totalsegmentator", name="without")
    assert "no meta.csv: there is no official split, all cases train" in result.written.notes
    (source / "meta.csv").write_text("image_id,split\ns0003,train\n")
    result = convert(tmp_path, source, "totalsegmentator", name="commas", limit=1)
    assert any(
        note.startswith("meta.csv names no split (its columns are image_id,split)") for note in result.written.notes
    )
    write_meta(source, {"s0003": "train", "s0010": "holdout", "s0011": "val", "s0999": "test"})
    with pytest.raises(DataError, match="split is holdout"):
        convert(tmp_path, source, "totalsegmentator", name="other")
    write_meta(source, {"s0003": "train", "s0010": "train", "s0011": "val", "s0012": "test", "s0999": "test"})
    result = convert(tmp_path, source, "totalsegmentator", name="more", limit=1)
    assert "1 subjects of meta.csv are not here: s0999" in result.written.notes


def test_ct_and_mr_together_are_refused_layout(tmp_path: Path) -> None:
    add_subject(tmp_path / "in", "s0001", organs(0))
    add_subject(tmp_path / "in", "s0002", organs(1), modality="mri", seed=1)
    with pytest.raises(DataError, match="CT and MR in one folder"):
        convert(tmp_path, tmp_path / "in", "totalsegmentator")
    shutil.copy(tmp_path / "in" / "s0002" / "mri.nii.gz", tmp_path / "in" / "s0001" / "mri.nii.gz")
    with pytest.raises(DataError, match="a CT and an MR scan of one subject"):
        convert(tmp_path, tmp_path / "in", "totalsegmentator")


def test_label_maps_name_their_classes_or_need_a_scheme_layout(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for seed, case in enumerate(["a", "b"]):
        write_sform(source / case / "ct.nii.gz", scan(seed), SHEARED)
        write_sform(source / case / "segmentations.nii.gz", np.where(truth(seed) == 2, 7, truth(seed)), SHEARED)
    with pytest.raises(ConfigError, match="--label-scheme v1, v2 or mr"):
        convert(tmp_path, source, "totalsegmentator")
    result = convert(tmp_path, source, "totalsegmentator", label_scheme="v1", subset=("aorta",))
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "b.nii.gz"), truth(1) == 2)
    result = convert(tmp_path, source, "totalsegmentator", name="v2", label_scheme="v2", subset=("pancreas",))
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "b.nii.gz"), truth(1) == 2)
    table = dict(enumerate(CT_V2, start=1))
    write_label_map(source / "a" / "segmentations.nii.gz", truth(0), SHEARED, table)
    assert label_table(source / "a" / "segmentations.nii.gz") == table
    with pytest.raises(ConfigError, match="its own names are not those of 'v1'"):
        convert(tmp_path, source, "totalsegmentator", name="other", label_scheme="v1")
    with pytest.raises(ConfigError, match="'v9'"):
        convert(tmp_path, source, "totalsegmentator", name="other", label_scheme="v9")
    with pytest.raises(ConfigError, match="masks that are named"):
        convert(tmp_path, make_ct(tmp_path / "ct"), "totalsegmentator", name="other", label_scheme="v2")


def test_of_several_scans_the_one_on_the_label_map_s_grid_counts_layout(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_label_map(source / "x_seg.nii.gz", truth(0), SHEARED, dict(enumerate(CT_V2, start=1)))
    write_sform(source / "x_ct.nii.gz", np.concatenate([scan(0), scan(0)]), SHEARED)
    write_sform(source / "x_ct_small.nii.gz", scan(0), SHEARED)
    write_sform(source / "y_ct.nii.gz", scan(1), SHEARED)
    assert recognise(source) == "totalsegmentator"
    result = convert(tmp_path, source, "totalsegmentator", subset=("spleen",))
    assert np.array_equal(nifti_array(result.written.root / "imagesTr" / "x_0000.nii.gz"), scan(0))
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "x.nii.gz"), truth(0) == 1)
    assert {one.what: one.why for one in result.written.skipped} == {
        "x_ct.nii.gz": "it does not lie on the grid of x_seg.nii.gz",
        "y_ct.nii.gz": "there is no label map y_seg",
    }


def test_plain_folders_of_scans_and_label_maps_stay_plain(tmp_path: Path) -> None:
    write_sform(tmp_path / "in" / "a_ct.nii.gz", scan(0), SHEARED)
    write_sform(tmp_path / "in" / "a_seg.nii.gz", truth(0), SHEARED)
    assert recognise(tmp_path / "in") == "folder"
    write_label_map(tmp_path / "in" / "a_seg.nii.gz", truth(0), SHEARED, {1: "spleen", 2: "lesion"})
    assert recognise(tmp_path / "in") == "folder"
    (tmp_path / "in" / "a_seg.nii.gz").write_bytes(b"\x1f\x8b damaged")
    assert recognise(tmp_path / "in") == "folder"


def test_the_lists_of_classes() -> None:
    assert (len(CT_V1), len(CT_V2), len(MR)) == (104, 117, 50)
    assert (len(set(CT_V1)), len(set(CT_V2)), len(set(MR))) == (104, 117, 50)
    assert (CT_V2[50], CT_V2[-1], CT_V1[92], MR[-1]) == ("heart", "costal_cartilages", "face", "brain")
    assert order_of(CT_V1, "CT").scheme == "v1"
    assert order_of(CT_V2, "CT").values == {name: value for value, name in enumerate(CT_V2, start=1)}
    newer = (set(CT_V2) - {"vertebrae_S1"}) | {"vertebrae_L6"}
    assert order_of(newer, "CT").unlisted == ("vertebrae_L6",)
    assert order_of(newer, "CT").absent == ("vertebrae_S1",)
    assert order_of(MR, "MR").scheme == "mr"


def test_a_real_label_map(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "totalsegmentator"
    assert recognise(source) == "totalsegmentator"
    assert label_table(source / "example_seg.nii.gz") == dict(enumerate(CT_V2, start=1))
    result = convert(tmp_path, source, "totalsegmentator")
    root = result.written.root
    for ours, theirs in (("labelsTr/example.nii.gz", "example_seg"), ("imagesTr/example_0000.nii.gz", "example_ct_sm")):
        written, raw = nib.load(root / ours), nib.load(source / f"{theirs}.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(raw.dataobj))
        assert np.array_equal(written.affine, raw.affine)
    assert len(dataset_json(result)["labels"]) == 118
    assert [one.what for one in result.written.skipped] == ["example_ct.nii.gz", "example_mr_sm.nii.gz"]
    binary = convert(tmp_path, source, "totalsegmentator", name="two", subset=("liver", "spleen"))
    raw_label = nifti_array(source / "example_seg.nii.gz")
    expected = np.select([raw_label == 1, raw_label == 5], [1, 2])
    assert np.array_equal(nifti_array(binary.written.root / "labelsTr" / "example.nii.gz"), expected)


def test_a_real_scan_laid_out_as_a_subject(real_data: Path, tmp_path: Path) -> None:
    raw = real_data / "totalsegmentator"
    label = nib.load(raw / "example_seg.nii.gz")
    voxels = np.asanyarray(label.dataobj)
    folder = tmp_path / "in" / "s0000"
    (folder / "segmentations").mkdir(parents=True)
    shutil.copy(raw / "example_ct_sm.nii.gz", folder / "ct.nii.gz")
    for value, name in enumerate(CT_V2, start=1):
        image = nib.Nifti1Image((voxels == value).astype(np.uint8), label.affine, label.header)
        nib.save(image, folder / "segmentations" / f"{name}.nii.gz")
    result = convert(tmp_path, tmp_path / "in", "totalsegmentator")
    assert dataset_json(result)["labels"] == {"background": 0, **{name: n for n, name in enumerate(CT_V2, start=1)}}
    assert "source_values" not in dataset_json(result)
    assert np.array_equal(nifti_array(result.written.root / "labelsTr" / "s0000.nii.gz"), voxels)
    assert "117 classes in the order of TotalSegmentator's list 'v2'" in result.written.notes
    assert not any("claimed by several" in note for note in result.written.notes)
