"""Real public data through convert and check: nothing lost, nothing moved, nothing to complain about."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import CTImageStorage, generate_uid

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.workflows.check import run_check
from tests.tools.converting import convert, dataset_json, workspace_of
from tests.tools.sources import nifti_array, picture_array
from tests.tools.sources_dicom import MadeSeries, make_seg

pytestmark = pytest.mark.realdata


def clean(tmp_path: Path, name: str = "ds") -> bool:
    report = run_check(workspace=workspace_of(tmp_path), data=name, workers=1, reporter=Silent()).report
    assert report.findings == ()
    return True


def source_of(real_data: Path, name: str) -> Path:
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} in {real_data}")
    return real_data / name


def test_hippocampus(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "Task04_Hippocampus")
    result = convert(tmp_path, source, "msd", limit=12)
    assert (result.written.training, result.exit_code) == (12, 0)
    kinds = set()
    for case in open_dataset(result.written.root).training:
        assert case.label is not None
        for path, folder in ((case.images[0], "imagesTr"), (case.label, "labelsTr")):
            before, after = nib.load(source / folder / f"{case.id}.nii.gz"), nib.load(path)
            assert np.array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))
            assert np.array_equal(after.affine, before.affine)
            for field in ("qform_code", "sform_code", "xyzt_units"):
                assert after.header[field] == before.header[field]
            kinds.add((folder, str(before.get_data_dtype())))
        assert nib.load(case.label).get_data_dtype() == np.uint8
    assert ("labelsTr", "float32") in kinds, "the sample should hold float labels"
    assert clean(tmp_path)


def test_btcv_slices(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "BTCV")
    result = convert(tmp_path, source, "imed361m", limit=10)
    dataset = open_dataset(result.written.root)
    assert dataset.channels == ("grey",)
    assert len(dataset.labels) == 13
    assert {case.patient for case in dataset.training} == {"ABD_001", "ABD_002"}
    case = dataset.training[0]
    assert case.label is not None
    (mask_file,) = (source / "label").glob(f"x___{case.id}.(*")
    with np.load(mask_file) as csr:
        counts = np.diff(csr["indptr"])
    written = picture_array(case.label)
    assert [int((written == value).sum()) for value in range(1, 14)] == counts.tolist()
    assert np.array_equal(picture_array(case.images[0]), picture_array(source / "image" / f"{case.id}.png")[..., 0])
    root = result.written.root
    content = dataset_json(result)
    assert content["class_prompts"]["adrenal_gland_left"] == "left adrenal gland"
    codes = {
        finding.code
        for finding in run_check(
            workspace=workspace_of(tmp_path), data="ds", workers=1, reporter=Silent()
        ).report.findings
    }
    assert codes <= {"class-absent"}, root  # ten slices do not show every organ


def test_acdc(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "acdc_h5")
    result = convert(tmp_path, source, "ssl4mis-h5", limit=4, spacing_mm=(1.5, 1.5, 8.0))
    assert result.written.patients == 2
    for case in open_dataset(result.written.root).training:
        assert case.label is not None
        with h5py.File(source / f"{case.id}.h5") as file:
            assert np.array_equal(nifti_array(case.images[0]).transpose(2, 1, 0), file["image"][...])
            assert np.array_equal(nifti_array(case.label).transpose(2, 1, 0), file["label"][...])
    assert clean(tmp_path)


def test_chest_x_rays_with_soft_masks(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "sz_cxr")
    result = convert(tmp_path, source, "folder", label_names=("lung",), limit=4)
    assert any("soft edges" in note for note in result.written.notes)
    for case in open_dataset(result.written.root).training:
        assert case.label is not None
        soft = picture_array(source / "mask" / f"{case.id}_mask.png")
        assert np.array_equal(picture_array(case.label), soft > 127)
        assert np.array_equal(picture_array(case.images[0]), picture_array(source / "CXR_png" / f"{case.id}.png"))
    assert clean(tmp_path)


def test_dermoscopy(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "isic")
    result = convert(tmp_path, source, "folder", label_names=("lesion",))
    dataset = open_dataset(result.written.root)
    assert dataset.channels == ("R", "G", "B")
    for case in dataset.training:
        assert np.array_equal(picture_array(case.images[0]), picture_array(source / "images" / f"{case.id}.jpg"))
    assert clean(tmp_path)


def test_one_mask_per_organ(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "amos_totalseg_slices")
    options: dict[str, Any] = {"images": Path("images"), "labels": Path("masks"), "class_files": True}
    result = convert(tmp_path, source, "folder", allow_unmatched=True, **options)
    dataset = open_dataset(result.written.root)
    assert len(dataset.training) == 4
    assert [one.what.rpartition("/")[2] for one in result.written.skipped] == ["amos_0507_31.png"]
    label = picture_array(result.written.root / "labelsTr" / "s0619_32.png")
    halves = [picture_array(source / "masks" / f"s0619_32_hip_left_00{part}.png") > 127 for part in (0, 1)]
    assert np.array_equal(label == dataset.labels["hip_left"], halves[0] | halves[1])
    assert clean(tmp_path)


def test_isles_channels_by_suffix(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "isles2022")
    options: dict[str, Any] = {"label_suffix": "_msk", "label_names": ("infarct",), "allow_unmatched": True}
    result = convert(tmp_path, source, "folder", image_suffixes=("_dwi", "_adc"), **options)
    assert dataset_json(result)["channel_names"] == {"0": "dwi", "1": "adc"}
    assert clean(tmp_path)


@pytest.mark.parametrize("name", ["dicom_ct", "dicom_mr/13_HCropVolume"])
def test_dicom_series(real_data: Path, tmp_path: Path, name: str) -> None:
    series = source_of(real_data, name)
    source = tmp_path / "src"
    shutil.copytree(series, source / "images" / "scan")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    scan = reader.Execute()
    voxels = SimpleITK.GetArrayFromImage(scan)  # z, y, x
    directions = np.diag([-1.0, -1, 1]) @ np.reshape(scan.GetDirection(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = directions * scan.GetSpacing()
    affine[:3, 3] = np.array(scan.GetOrigin()) * [-1, -1, 1]
    label = (voxels > np.percentile(voxels, 95)).astype(np.uint8).transpose(2, 1, 0)
    (source / "labels").mkdir()
    nib.save(nib.Nifti1Image(label, affine), source / "labels" / "scan.nii.gz")
    result = convert(tmp_path, source, "folder", images=Path("images"), labels=Path("labels"))
    assert dataset_json(result)["modality"] == {"0": name[6:8].upper()}
    written = nib.load(result.written.root / "imagesTr" / "scan_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj).transpose(2, 1, 0), voxels)
    assert np.allclose(written.affine, affine, atol=1e-3)
    assert clean(tmp_path)


def test_totalsegmentator_label_map(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "totalsegmentator")
    pair = tmp_path / "src"
    pair.mkdir()
    shutil.copy(source / "example_ct_sm.nii.gz", pair / "ct.nii.gz")
    shutil.copy(source / "example_seg.nii.gz", pair / "ct_seg.nii.gz")
    result = convert(tmp_path, pair, "folder", modality="CT")
    before = nifti_array(source / "example_seg.nii.gz")
    after = nifti_array(result.written.root / "labelsTr" / "ct.nii.gz")
    sources = {int(value): one[0] for value, one in dataset_json(result)["source_values"].items()}
    assert np.array_equal(np.vectorize(lambda value: sources.get(value, 0))(after), before)
    assert clean(tmp_path)


def test_a_dicom_series_with_a_mask_and_with_a_segmentation(real_data: Path, tmp_path: Path) -> None:
    """The same mask as a NIfTI in another order of voxels and as a DICOM-SEG gives the same label map."""
    series = source_of(real_data, "dicom_ct")
    image = read_image(series)
    mask = (image.data[0] > 200).astype(np.uint8)
    for name in ("nifti", "seg"):
        (tmp_path / name / "ct").mkdir(parents=True)
        for path in series.iterdir():
            shutil.copyfile(path, tmp_path / name / "ct" / path.name)
    flip = np.diag([1.0, -1, 1, 1])
    flip[1, 3] = mask.shape[1] - 1
    nib.save(nib.Nifti1Image(mask[:, ::-1], image.geometry.affine @ flip), tmp_path / "nifti" / "ct_seg.nii.gz")
    datasets = []
    for path in sorted((tmp_path / "seg" / "ct").iterdir()):
        one = pydicom.dcmread(path)  # whoever removed the names removed all UIDs too; a segmentation refers to them
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid()
        one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
        one.save_as(path)
        datasets.append(one)
    datasets.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    upwards = image.geometry.affine[2, 2] > 0
    slices = mask.transpose(2, 1, 0) if upwards else mask.transpose(2, 1, 0)[::-1]
    made = MadeSeries(folder=series, datasets=datasets, voxels=slices)
    make_seg(tmp_path / "seg" / "marks" / "bone.dcm", made, {"bone": slices})
    labels = []
    for name in ("nifti", "seg"):
        result = convert(tmp_path, tmp_path / name, "dicom", name=name, label_names=("bone",))
        assert (result.written.training, result.exit_code) == (1, 0)
        labels.append(nifti_array(result.written.root / "labelsTr" / "ct.nii.gz"))
        assert np.array_equal(nifti_array(result.written.root / "imagesTr" / "ct_0000.nii.gz"), image.data[0])
        assert clean(tmp_path, name)
    assert np.array_equal(labels[0], mask)
    assert np.array_equal(labels[1], mask)


def test_the_hippocampus_release_as_a_tar(real_data: Path, tmp_path: Path) -> None:
    source = source_of(real_data, "Task04_Hippocampus")
    with tarfile.open(tmp_path / "Task04_Hippocampus.tar", "w") as archive:
        archive.add(source, "Task04_Hippocampus")
    result = convert(tmp_path, tmp_path / "Task04_Hippocampus.tar", "auto", limit=5)
    assert (result.format, result.written.training) == ("msd", 5)
    for case in open_dataset(result.written.root).training:
        before = nib.load(source / "imagesTr" / f"{case.id}.nii.gz")
        assert np.array_equal(nifti_array(case.images[0]), np.asanyarray(before.dataobj))
        assert np.array_equal(nib.load(case.images[0]).affine, before.affine)
    assert {row.value for row in result.written.values} == {0, 1, 2}
    assert clean(tmp_path)
