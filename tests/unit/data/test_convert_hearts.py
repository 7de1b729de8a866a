"""MMWHS and ACDC become datasets; only their layouts are those releases', the voxels are made (or real, where said)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.acdc import phases
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.splits import split
from tests.tools.converting import convert, dataset_json, names
from tests.tools.datasets import phantom, write_nifti
from tests.tools.sources import AFFINE, nifti_array
from tests.tools.sources_hearts import MMWHS_VALUES, SHEARED, heart, make_acdc, make_mmwhs


def look(source: Path, format: str, **options: object) -> Survey:
    return survey_source(source, format, ConvertOptions(**options), workers=1, reporter=Silent())  # type: ignore[arg-type]


def test_mmwhs_layout_ct(tmp_path: Path) -> None:
    source = make_mmwhs(tmp_path / "MM-WHS 2017 Dataset")
    assert recognise(source) == "mmwhs"
    result = convert(tmp_path, source, "mmwhs", subset=("ct",))
    root = result.written.root
    assert names(root / "labelsTr") == ["mmwhs_ct1001.nii.gz", "mmwhs_ct1003.nii.gz"]
    assert names(root / "imagesTs") == ["mmwhs_ct2001_0000.nii.gz"]
    image, label = heart(1003)
    written = nib.load(root / "imagesTr" / "mmwhs_ct1003_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), image)
    assert np.allclose(written.affine, AFFINE, atol=1e-5)
    ids = np.searchsorted((0, *MMWHS_VALUES), label)
    assert np.array_equal(nifti_array(root / "labelsTr" / "mmwhs_ct1003.nii.gz"), ids)
    content = dataset_json(result)
    assert content["source_values"] == {str(n): [value] for n, value in enumerate(MMWHS_VALUES, start=1)}
    assert content["modality"] == {"0": "CT"}
    assert content["class_prompts"]["myocardium"] == "myocardium of the left ventricle"


def test_mmwhs_layout_421_is_mended_and_said(tmp_path: Path) -> None:
    source = make_mmwhs(tmp_path / "MM-WHS")
    assert look(source, "mmwhs").mended == {421: 420}
    result = convert(tmp_path, source, "mmwhs", subset=("mr",))
    assert not result.written.failed
    mended = nifti_array(result.written.root / "labelsTr" / "mmwhs_mr1010.nii.gz")
    _, clean = heart(1010)
    assert (heart(1010, slip=True)[1] == 421).sum() == 3
    assert np.array_equal(mended, np.searchsorted((0, *MMWHS_VALUES), clean))
    assert any("421" in note and "3 voxels in 1 cases" in note for note in result.written.notes)
    assert not any("--patient-regex" in note for note in result.written.notes)
    assert [row.cases for row in result.written.values if row.mended] == [1]


def test_mmwhs_layout_other_values_fail(tmp_path: Path) -> None:
    source = make_mmwhs(tmp_path / "MM-WHS", {"ct": (1001, 1003)})
    _, label = heart(1001)
    label[0, 0, 0] = 422
    write_nifti(source / "ct_train" / "ct_train_1001_label.nii.gz", label, AFFINE)
    (failed,) = convert(tmp_path, source, "mmwhs").written.failed
    assert failed.what == "mmwhs_ct1001"
    assert "422" in failed.why


def test_mmwhs_layout_fold_names_and_parts(tmp_path: Path) -> None:
    source = make_mmwhs(tmp_path / "any names" / "of folders")
    both = look(source.parent, "mmwhs")
    (fold,) = both.folds
    assert fold.train == ("mmwhs_ct1001", "mmwhs_mr1002", "mmwhs_mr1010")
    assert fold.val == ("mmwhs_ct1003", "mmwhs_mr1007")
    assert both.channels == ("image",)
    assert any("mr_train_1002" in note for note in both.notes)
    assert look(source, "mmwhs", subset=("mr",)).channels == ("MR",)
    with pytest.raises(ConfigError, match="unknown --subset 'mri'"):
        look(source, "mmwhs", subset=("mri",))


def test_mmwhs_layout_test_truth_that_is_no_nifti_is_left_out(tmp_path: Path) -> None:
    source = make_mmwhs(tmp_path / "MM-WHS", {"ct": (1001, 1002)})
    (source / "ct_test" / "ct_test_2001_label.nii.gz").write_bytes(b"encrypted")
    (source / "ct_train" / "ct_train_1002_label.nii.gz").unlink()
    found = look(source, "mmwhs")
    assert [(case.id, len(case.files)) for case in found.cases] == [("mmwhs_ct1001", 2), ("mmwhs_ct2001", 1)]
    assert {one.what for one in found.skipped} == {"ct_test_2001_label.nii.gz", "mmwhs_ct1002"}


def test_acdc_layout(tmp_path: Path) -> None:
    source = make_acdc(tmp_path / "ACDC")
    assert recognise(source) == "acdc"
    result = convert(tmp_path, source, "acdc")
    root = result.written.root
    training = [f"patient{case}" for case in ("001_frame01", "001_frame12", "002_frame01", "002_frame10")]
    assert names(root / "labelsTr") == [
        f"{case}.nii.gz" for case in (*training, "patient090_frame04", "patient090_frame11")
    ]
    assert names(root / "labelsTs") == ["patient101_frame01.nii.gz", "patient101_frame14.nii.gz"]
    images, label = phantom((11, 9, 4), classes=3, seed=9004)
    written = nib.load(root / "imagesTr" / "patient090_frame04_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), images[0].astype(np.int16))
    assert np.allclose(written.affine, SHEARED, atol=1e-5)  # not quite perpendicular, and kept
    assert np.array_equal(nifti_array(root / "labelsTr" / "patient090_frame04.nii.gz"), label)
    assert dataset_json(result)["patients"]["patient002_frame10"] == "patient002"
    assert result.written.patients == 4
    (cine,) = result.written.skipped
    assert cine.what.startswith("4 cine series")


def test_acdc_layout_says_where_info_and_frames_differ(tmp_path: Path) -> None:
    source = make_acdc(tmp_path / "ACDC")
    (source / "database/training/patient002/Info.cfg").unlink()
    (source / "database/training/patient001/patient001_frame12_gt.nii.gz").unlink()
    found = look(source, "acdc")
    notes = "\n".join(found.notes)
    assert "patient090: Info.cfg says ED 1, ES 11; the annotated frames are 4, 11" in notes
    assert "end-diastole is not frame 01 in patient090" in notes
    assert "no Info.cfg for patient002" in notes
    assert "without exactly two annotated frames: patient001" in notes
    assert ("patient001_frame12", "a training frame without its _gt file") in [(o.what, o.why) for o in found.skipped]
    (fold,) = found.folds
    assert {case[:10] for case in fold.train} == {"patient090"}
    assert {case[:10] for case in fold.val} == {"patient002"}  # patient001 is of SSL4MIS's test set
    assert any("1 labelled cases are on neither side of it: patient001_frame01" in note for note in found.notes)


def test_layout_folds_are_written(tmp_path: Path) -> None:
    source = make_acdc(tmp_path / "ACDC", frames={2: (1, 10), 3: (1, 9), 1: (1, 12)})
    root = convert(tmp_path, source, "acdc").written.root
    (fold,) = json.loads((root / "splits_final.json").read_text())
    assert fold == {
        "train": ["patient003_frame01", "patient003_frame09"],
        "val": ["patient002_frame01", "patient002_frame10"],
    }
    assert split(open_dataset(root), 0).validation == ("patient002_frame01", "patient002_frame10")


def test_acdc_layout_testing_without_truth(tmp_path: Path) -> None:
    source = make_acdc(tmp_path / "ACDC", frames={1: (1, 12), 150: (1, 9)})
    for path in source.rglob("patient150*_gt.nii.gz"):
        path.unlink()
    result = convert(tmp_path, source, "acdc")
    assert (result.written.training, result.written.test) == (2, 2)
    assert not (result.written.root / "labelsTs").exists()


def test_info_cfg_has_no_section(tmp_path: Path) -> None:
    path = tmp_path / "Info.cfg"
    path.write_text("ED: 1\r\nES: 12\r\nGroup: DCM\r\nHeight: 184.0\r\nNbFrame: 30\r\n")
    assert phases(path) == {"ED": 1, "ES": 12}
    path.write_text("nothing: 3\n")
    assert phases(path) == {}
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"unreadable Info.cfg"):
        phases(path)


def test_ssl4mis_files_are_no_acdc_release(tmp_path: Path) -> None:
    (tmp_path / "h5").mkdir()
    with h5py.File(tmp_path / "h5" / "patient001_frame02.h5", "w") as file:
        file["image"], file["label"] = np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match="it looks like ssl4mis-h5"):
        look(tmp_path / "h5", "acdc")


@pytest.mark.realdata
def test_real_hearts_in_acdc_layout(tmp_path: Path, real_data: Path) -> None:
    """Real cine frames under the release's names (the source gives no voxel size: the grid is made)."""
    source = tmp_path / "ACDC"
    arrays = {}
    for patient, frames in (("patient001", (1, 12)), ("patient002", (1, 10))):
        folder = source / "training" / patient
        for number, frame in enumerate(frames, start=1):
            with h5py.File(real_data / "acdc_h5" / f"{patient}_frame{number:02d}.h5", "r") as file:
                image, label = (np.asarray(file[key])[:, ::2, ::2].transpose(2, 1, 0) for key in ("image", "label"))
            case = f"{patient}_frame{frame:02d}"
            arrays[case] = image, label
            write_nifti(folder / f"{case}.nii.gz", image, SHEARED)
            write_nifti(folder / f"{case}_gt.nii.gz", label.astype(np.uint8), SHEARED)
        (folder / "Info.cfg").write_text(f"ED: {frames[0]}\nES: {frames[1]}\n")
    result = convert(tmp_path, source, "acdc")
    assert (result.written.training, result.written.patients, result.written.failed) == (4, 2, ())
    assert all(row.cases == 4 for row in result.written.classes)
    for case, (image, label) in arrays.items():
        assert np.array_equal(nifti_array(result.written.root / "imagesTr" / f"{case}_0000.nii.gz"), image)
        assert np.array_equal(nifti_array(result.written.root / "labelsTr" / f"{case}.nii.gz"), label)
    shutil.rmtree(source)
