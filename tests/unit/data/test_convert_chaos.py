"""CHAOS becomes datasets; only its layout is that release's, except where the test says that the slices are real."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.chaos import LEVELS_SETTLED
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.slice_masks import BY_ORDER, BY_STEM, pair_slices
from medmoe_cli.core.data.converters.source import ConvertOptions
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import nifti_array
from tests.tools.sources_chaos import SLICES, SPACING, make_chaos, truth


def test_t1_layout_has_two_channels(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "CHAOS")
    assert recognise(source) == recognise(source / "Train_Sets") == recognise(source / "Train_Sets" / "MR") == "chaos"
    result = convert(tmp_path, source, "chaos", subset=("t1",))
    root = result.written.root
    assert names(root / "imagesTr") == [f"mr_{n}_t1_{c:04d}.nii.gz" for n in ("01", "10") for c in (0, 1)]
    assert names(root / "imagesTs") == ["mr_04_t1_0000.nii.gz", "mr_04_t1_0001.nii.gz"]
    assert not (root / "labelsTs").exists()
    image, label = truth(10, 4)
    assert np.array_equal(nifti_array(root / "imagesTr" / "mr_10_t1_0000.nii.gz"), image)
    assert np.array_equal(nifti_array(root / "imagesTr" / "mr_10_t1_0001.nii.gz"), image // 2)
    assert np.array_equal(nifti_array(root / "labelsTr" / "mr_10_t1.nii.gz"), label)
    content = dataset_json(result)
    assert content["channel_names"] == {"0": "T1 in-phase", "1": "T1 out-phase"}
    assert content["source_values"] == {"1": [63], "2": [126], "3": [189], "4": [252]}
    assert content["patients"]["mr_10_t1"] == "mr_10"
    assert f"{BY_STEM} (2 cases)" in result.written.notes


@pytest.mark.parametrize("modality", ["ct", "t2"])
def test_layout_slice_order_is_that_of_names_not_of_positions(tmp_path: Path, modality: str) -> None:
    source = make_chaos(tmp_path / "CHAOS", mr_mask=lambda stem: f"mask{int(stem[-5:]):03d}.png")
    result = convert(tmp_path, source, "chaos", subset=(modality,))
    root = result.written.root
    case = "ct_01" if modality == "ct" else "mr_01_t2"
    image, label = truth(101, 1) if modality == "ct" else truth(1, 4)
    written = nib.load(root / "imagesTr" / f"{case}_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), image if modality == "ct" else image + 7)
    assert np.array_equal(nifti_array(root / "labelsTr" / f"{case}.nii.gz"), label)
    assert np.allclose(written.header.get_zooms(), (SPACING[0], SPACING[0], SPACING[1]))
    assert nib.aff2axcodes(written.affine) == ("L", "P", "S")
    assert np.isclose(written.affine[2, 3], 1536.5)
    assert f"{BY_ORDER} (2 cases)" in result.written.notes
    assert result.written.classes[0].name == "liver"


def test_layout_needs_a_subset_and_refuses_what_is_no_dataset(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "CHAOS", ids=(1,), test_ids=())
    for subset, message in (
        ((), "ct, t1, t2 differ"),
        (("t1", "t2"), "is no dataset"),
        (("ct", "t2"), "is no dataset"),
        (("t3",), "unknown --subset 't3'"),
    ):
        with pytest.raises(ConfigError, match=message):
            survey_source(source, "chaos", ConvertOptions(subset=subset), workers=1, reporter=Silent())
    shutil.rmtree(source / "Train_Sets" / "MR")
    only = survey_source(source, "chaos", ConvertOptions(), workers=1, reporter=Silent())
    assert (only.labels, only.channels, only.modality) == ({"liver": 1}, ("CT",), "CT")
    with pytest.raises(ConfigError, match="no T2-SPIR here"):
        survey_source(source, "chaos", ConvertOptions(subset=("t2",)), workers=1, reporter=Silent())


def test_t1_layout_with_phases_on_different_grids_is_two_datasets(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "CHAOS", ids=(1, 2), test_ids=())
    outside = source / "Train_Sets/MR/2/T1DUAL/DICOM_anon/OutPhase"
    for path in outside.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.ImagePositionPatient[0] += 5
        slice_.save_as(path)
    (failed,) = convert(tmp_path, source, "chaos", subset=("t1",)).written.failed
    assert "different grids" in failed.why
    assert "--subset t1-in" in failed.why
    inside = convert(tmp_path, source, "chaos", name="in", subset=("t1-in",)).written
    assert (inside.training, inside.failed) == (2, ())
    pooled = convert(tmp_path, source, "chaos", name="pool", subset=("t1-in", "t2")).written
    assert (pooled.training, pooled.patients) == (4, 2)
    out = convert(tmp_path, source, "chaos", name="out", subset=("t1-out",)).written
    assert [one.what for one in out.failed] == ["mr_02_t1-out"]  # its masks are those of the other phase
    image, label = truth(1, 4)
    assert np.array_equal(nifti_array(out.root / "imagesTr" / "mr_01_t1-out_0000.nii.gz"), image // 2)
    assert np.array_equal(nifti_array(out.root / "labelsTr" / "mr_01_t1-out.nii.gz"), label)


def test_layout_grey_levels_by_range(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "CHAOS", ids=(1, 2, 3), test_ids=())
    for number, change in ((2, {63: 60, 252: 249}), (3, {126: 90})):
        for path in (source / f"Train_Sets/MR/{number}/T2SPIR/Ground").iterdir():
            grey = np.asarray(Picture.open(path)).copy()
            for level, other in change.items():
                grey[grey == level] = other
            Picture.fromarray(grey).save(path)
    written = convert(tmp_path, source, "chaos", subset=("t2",)).written
    assert np.array_equal(nifti_array(written.root / "labelsTr" / "mr_02_t2.nii.gz"), truth(2, 4)[1])
    assert f"{LEVELS_SETTLED} (1 cases)" in written.notes
    (failed,) = written.failed
    assert failed.what == "mr_03_t2"
    assert "90" in failed.why


def test_layout_faults_fail_their_case(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "CHAOS", ids=(1, 2, 3, 5), test_ids=())
    train = source / "Train_Sets" / "CT"
    next(iter(sorted((train / "1/Ground").iterdir()))).unlink()
    shutil.rmtree(train / "2/Ground")
    reverse = sorted((train / "3/Ground").iterdir())
    kept = [path.read_bytes() for path in reversed(reverse)]
    for path, content in zip(reverse, kept, strict=True):
        path.write_bytes(content)
    written = convert(tmp_path, source, "chaos", subset=("ct",)).written
    why = {one.what: one.why for one in written.failed}
    assert f"{SLICES - 1} masks for {SLICES} slices" in why["ct_01"]
    assert "reverse order" in why["ct_03"]
    assert [(one.what, one.why) for one in written.skipped] == [("ct_02", "a training patient without Ground")]
    assert written.training == 1


def test_names_that_sort_in_two_ways_are_refused(tmp_path: Path) -> None:
    slices = ["i1.dcm", "i2.dcm", "i10.dcm"]
    padded = [tmp_path / f"m{number:02d}.png" for number in (1, 2, 10)]
    with pytest.raises(DataError, match="sort in two ways"):
        pair_slices(slices, padded, tmp_path)
    alike = [tmp_path / f"m{number}.png" for number in (1, 2, 10)]
    assert pair_slices(slices, alike, tmp_path)["i10.dcm"].name == "m10.png"
    stems = [tmp_path / f"i{number}.png" for number in (10, 1, 2)]
    assert pair_slices(slices, stems, tmp_path)["i2.dcm"].name == "i2.png"


@pytest.mark.realdata
def test_real_mr_slices_in_t2_layout(tmp_path: Path, real_data: Path) -> None:
    """A real MR series whose file names run against its positions, masks from a threshold of the very pixels."""
    series = {path: pydicom.dcmread(path) for path in (real_data / "dicom_mr").rglob("*.dcm")}
    descending = sorted(series, key=lambda path: -float(series[path].ImagePositionPatient[2]))
    folder = tmp_path / "CHAOS" / "MR" / "1" / "T2SPIR"
    (folder / "Ground").mkdir(parents=True)
    (folder / "DICOM_anon").mkdir()
    for number, path in enumerate(descending):
        shutil.copy(path, folder / "DICOM_anon" / f"IMG-0002-{number + 1:05d}.dcm")
        pixels = series[path].pixel_array
        levels = np.digitize(pixels, [200, 400]).astype(np.uint8)
        Picture.fromarray(np.array([0, 63, 252], np.uint8)[levels]).save(folder / "Ground" / f"t2_{number:03d}.png")
    result = convert(tmp_path, tmp_path / "CHAOS", "chaos")
    assert (result.written.training, result.written.failed) == (1, ())
    image = nifti_array(result.written.root / "imagesTr" / "mr_01_t2_0000.nii.gz")
    label = nifti_array(result.written.root / "labelsTr" / "mr_01_t2.nii.gz")
    assert np.array_equal(label, np.array([0, 1, 4])[np.digitize(image, [200, 400])])
    assert image.shape[2] == len(series)
