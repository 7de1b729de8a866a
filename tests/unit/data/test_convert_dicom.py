"""DICOM folders: series with segmentations or label files, patients by a hash, nothing of a name kept."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.data.converters.turned import onto_voxels
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.read import read_image
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import nifti_array
from tests.tools.sources_dicom import box, make_seg, make_series

LIVER = box((slice(2, 5), slice(1, 4), slice(0, 3)))
TUMOUR = box((slice(3, 4), slice(2, 4), slice(2, 5)))


def test_segmentations_become_label_maps_on_their_series_grid(tmp_path: Path) -> None:
    one = make_series(tmp_path / "src" / "anna" / "ct")
    two = make_series(tmp_path / "src" / "berta" / "ct", patient="MRN-7", study="1.2.840.2", seed=1)
    make_series(tmp_path / "src" / "anna" / "scout", seed=2)
    make_seg(tmp_path / "src" / "marks" / "a.dcm", one, {"liver": LIVER})
    make_seg(tmp_path / "src" / "marks" / "b.dcm", one, {"tumour": TUMOUR})
    make_seg(tmp_path / "src" / "marks" / "c.dcm", two, {"liver": LIVER})
    result = convert(tmp_path, tmp_path / "src", "dicom")
    assert (result.written.training, result.exit_code) == (2, 0)
    content = dataset_json(result)
    assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert content["channel_names"] == {"0": "CT"}
    expected = np.where(TUMOUR, 2, np.where(LIVER, 1, 0))
    label = nib.load(result.written.root / "labelsTr" / "anna_ct.nii.gz")
    assert np.array_equal(np.asanyarray(label.dataobj), expected.transpose(2, 1, 0))
    image = nib.load(result.written.root / "imagesTr" / "anna_ct_0000.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), one.voxels.transpose(2, 1, 0))
    assert np.array_equal(label.affine, image.affine)
    assert np.allclose(image.affine, read_image(one.folder).geometry.affine)
    assert [(skipped.what, skipped.why) for skipped in result.written.skipped] == [
        ("anna_scout", "a series that nothing marks")
    ]
    assert result.written.grids == ()
    assert any("claimed by several classes" in note for note in result.written.notes)


def test_patients_are_a_hash_and_no_name_is_kept(tmp_path: Path) -> None:
    for number, (folder, patient, study) in enumerate(
        [("a", "MRN-1", "1.1"), ("b", "MRN-1", "1.2"), ("c", "", "1.3"), ("d", "", "1.3"), ("e", "MRN-2", "1.4")]
    ):
        series = make_series(tmp_path / "src" / folder, patient=patient, study=study, seed=number)
        make_seg(tmp_path / "src" / folder / "seg.dcm", series, {"liver": LIVER})
    result = convert(tmp_path, tmp_path / "src", "dicom")
    patients = dataset_json(result)["patients"]
    assert patients["a"] == patients["b"]
    assert patients["c"] == patients["d"]
    assert len(set(patients.values())) == result.written.patients == 3
    assert any("2 series without PatientID" in note for note in result.written.notes)
    for path in result.written.root.rglob("*"):
        if path.is_file():
            data = nifti_bytes(path) if path.name.endswith(".gz") else path.read_bytes()
            assert b"MRN" not in data
            assert b"DOE" not in data


def nifti_bytes(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def test_label_files_beside_their_series_in_any_order_of_voxels(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for folder in ("a", "b"):
        made = make_series(source / folder, patient=folder, seed=len(folder))
        geometry = read_image(made.folder).geometry
        values = LIVER.transpose(2, 1, 0).astype(np.uint8) * 5
        if folder == "b":  # as dcm2niix writes it: rows reversed, the same place
            flip = np.diag([1.0, -1, 1, 1])
            flip[1, 3] = values.shape[1] - 1
            nib.save(nib.Nifti1Image(values[:, ::-1], geometry.affine @ flip), source / "b_seg.nii.gz")
        else:
            nib.save(nib.Nifti1Image(values, geometry.affine), source / "a" / "anything.nii.gz")
    nib.save(nib.Nifti1Image(values, geometry.affine), source / "stray.nii.gz")
    result = convert(tmp_path, source, "dicom", label_names=("liver",))
    assert result.written.training == 2
    for case in ("a", "b"):
        found = nifti_array(result.written.root / "labelsTr" / f"{case}.nii.gz")
        assert np.array_equal(found, LIVER.transpose(2, 1, 0))
    assert [row.cases for row in result.written.grids] == [1]
    assert "turned onto it, voxel for voxel" in result.written.grids[0].what
    assert [skipped.what for skipped in result.written.skipped] == ["stray.nii.gz"]


def test_a_label_on_another_grid_fails_the_case_alone(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for folder in ("a", "b"):
        geometry = read_image(make_series(source / folder, patient=folder).folder).geometry
        affine = geometry.affine.copy()
        affine[0, 3] += 7.3 if folder == "b" else 0
        nib.save(nib.Nifti1Image(LIVER.transpose(2, 1, 0).astype(np.uint8), affine), source / f"{folder}.nii.gz")
    result = convert(tmp_path, source, "dicom", label_names=("liver",))
    assert (result.written.training, result.exit_code) == (1, 6)
    assert "label on another grid" in result.written.failed[0].why
    assert [row.cases for row in result.written.grids] == [1]


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "src"
    one = make_series(source / "a")
    with pytest.raises(DataError, match=r"looks like no known format|not a source of format dicom"):
        convert(tmp_path, source, "dicom")
    make_seg(source / "seg.dcm", one, {"liver": LIVER})
    with pytest.raises(ConfigError, match=r"no series of modality 'MR'.*there is CT"):
        convert(tmp_path, source, "dicom", subset=("mr",))
    with pytest.raises(ConfigError, match="segments that --label-names does not name: liver"):
        convert(tmp_path, source, "dicom", label_names=("spleen",))
    nib.save(nib.Nifti1Image(LIVER.transpose(2, 1, 0).astype(np.uint8), np.eye(4)), source / "a.nii.gz")
    with pytest.raises(ConfigError, match="labels of two kinds"):
        convert(tmp_path, source, "dicom")
    (source / "seg.dcm").unlink()
    nib.save(nib.Nifti1Image(LIVER.transpose(2, 1, 0).astype(np.uint8), np.eye(4)), source / "a_seg.nii.gz")
    with pytest.raises(DataError, match="several label files of one series"):
        convert(tmp_path, source, "dicom")


def test_a_gap_in_a_series_fails_its_case(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        series = make_series(tmp_path / "src" / folder, patient=folder)
        make_seg(tmp_path / "src" / f"{folder}.dcm", series, {"liver": LIVER})
    (tmp_path / "src" / "b" / "i003.dcm").unlink()
    result = convert(tmp_path, tmp_path / "src", "dicom")
    assert names(result.written.root / "labelsTr") == ["a.nii.gz"]
    assert [failed.what for failed in result.written.failed] == ["b"]
    record = json.loads((result.written.root / "run.json").read_text())
    assert record["results"]["failed"][0]["what"] == "b"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_turned_and_cropped_arrays_find_their_voxels(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    affine = np.diag([-0.7, 0.7, 2.5, 1])
    affine[:3, 3] = (5, -8, 11)
    target = Geometry(shape=(7, 6, 5), affine=affine)
    whole = rng.integers(0, 4, target.shape).astype(np.uint8)
    cropped = np.zeros_like(whole)
    cropped[2:5, 1:6, 1:4] = whole[2:5, 1:6, 1:4]
    part = whole[2:5, 1:6, 1:4]
    stored = part[tuple(slice(None, None, step) for step in flips)].transpose(order)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for axis, source_axis in enumerate(order):
        turn[source_axis, axis] = flips[source_axis]
    for axis in range(3):
        turn[axis, 3] = (2, 1, 1)[axis] + (part.shape[axis] - 1 if flips[axis] < 0 else 0)
    source = Geometry(shape=stored.shape, affine=affine @ turn)
    placed = onto_voxels(stored, source, target)
    assert placed is not None
    assert np.array_equal(placed, cropped)
    shifted = Geometry(shape=stored.shape, affine=source.affine + np.array([[0, 0, 0, 0.3]] + [[0] * 4] * 3))
    assert onto_voxels(stored, shifted, target) is None
    away = source.affine.copy()
    away[2, 3] += 2.5 * 4
    assert onto_voxels(stored, Geometry(shape=stored.shape, affine=away), target) is None
