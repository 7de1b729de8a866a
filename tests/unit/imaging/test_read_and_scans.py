"""Which files are scans, and what makes a label map."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.formats import ending_of, is_junk, stem_of
from medmoe_cli.core.imaging.read import format_of, list_scans, read_image, read_labels
from tests.tools import dicoms, niftis


def save_labels(path: Path, data: np.ndarray) -> Path:
    path.write_bytes(niftis.nifti(data))
    return path


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, 1, 2], np.uint8), np.uint8),
        (np.array([0, 1, 255], np.int64), np.uint8),
        (np.array([0, 1, 256], np.int16), np.uint16),
        (np.array([0, 1, 65536], np.int32), np.int32),
        (np.array([0.0, 1.0, 2.0], np.float32), np.uint8),
        (np.array([0.0004, 0.9996, 2.0], np.float64), np.uint8),
    ],
)
def test_label_types(tmp_path: Path, values: np.ndarray, dtype: type) -> None:
    labels = read_labels(save_labels(tmp_path / "a.nii", values.reshape(3, 1, 1)))
    assert labels.data.dtype == dtype
    np.testing.assert_array_equal(labels.data.ravel(), np.rint(values))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([0, 0.5, 1]), "1 values such as 0.5"),
        (np.array([0, 1.002, 1.003]), "2 values such as 1.003"),
        (np.array([0, -1, 1]), "values from -1"),
        (np.array([0, 3e9, 1]), "values from 0"),
    ],
)
def test_what_is_no_label(tmp_path: Path, values: np.ndarray, why: str) -> None:
    path = save_labels(tmp_path / "a.nii", values.reshape(3, 1, 1))
    with pytest.raises(DataError, match=rf"not a label map in .*: .*{why}"):
        read_labels(path)


def test_scaled_labels(tmp_path: Path) -> None:
    raw = niftis.poke(niftis.nifti(np.array([0, 2, 4], np.int16).reshape(3, 1, 1)), "scl_slope", 0.5, 0.0)
    (tmp_path / "a.nii").write_bytes(raw)
    assert read_labels(tmp_path / "a.nii").data.ravel().tolist() == [0, 1, 2]


def test_several_channels_are_no_label_map(tmp_path: Path) -> None:
    save_labels(tmp_path / "a.nii", niftis.voxels(shape=(4, 4, 4, 2)))
    with pytest.raises(DataError, match="2 channels"):
        read_labels(tmp_path / "a.nii")


@pytest.mark.realdata
def test_real_float_labels(real_data: Path) -> None:
    seen = set()
    paths = sorted((real_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))
    for path in [*paths[:3], *paths[3::20]]:
        labels, theirs = read_labels(path), nib.load(path)
        assert labels.data.dtype == np.uint8
        np.testing.assert_array_equal(labels.data, np.asanyarray(theirs.dataobj))
        seen.add(theirs.get_data_dtype().kind)
    assert "f" in seen


def test_endings_and_stems() -> None:
    assert ending_of(Path("a.b/scan.v2.NII.GZ")) == ".nii.gz"
    assert stem_of(Path("scan.v2.NII.GZ")) == "scan.v2"
    assert stem_of(Path("lesion.seg.nrrd")) == "lesion"
    assert (ending_of(Path("a.gz")), stem_of(Path("a.gz"))) == ("", "a")
    for name in ("._a.nii", ".DS_Store", "Thumbs.db", "__MACOSX", ".tmp-1-a.nii.gz", ".ipynb_checkpoints"):
        assert is_junk(Path(name))
    assert is_junk(Path("__MACOSX/a.nii"))
    assert not is_junk(Path("/home/.hidden/a.nii"))


def a_folder(folder: Path) -> Path:
    for name in ("b.nii.gz", "a.NII", "._b.nii.gz", ".DS_Store", "LICENSE.txt", "sizes.json"):
        (folder / name).write_bytes(niftis.base())
    PillowImage.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "c.png")
    dicoms.stack(folder / "ct", dicoms.voxels(2), np.arange(2.0))
    dicoms.stack(folder / "deep" / "er", dicoms.voxels(2), np.arange(2.0))
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "b.nii.gz", folder / "__MACOSX" / "x.nii.gz")
    (folder / "nested").mkdir()
    shutil.copy(folder / "b.nii.gz", folder / "nested" / "y.nii.gz")
    return folder


def test_scans_of_a_folder(tmp_path: Path) -> None:
    scans = list_scans(a_folder(tmp_path))
    assert [(scan.id, scan.format, scan.path.name) for scan in scans] == [
        ("a", "nifti", "a.NII"),
        ("b", "nifti", "b.nii.gz"),
        ("c", "png", "c.png"),
        ("ct", "dicom", "ct"),
    ]


def test_one_dicom_folder_without_endings(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "series", dicoms.voxels(2), np.arange(2.0))
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(""))
    (folder / "a note.txt").write_text("hello")
    assert [(scan.id, scan.format) for scan in list_scans(folder)] == [("series", "dicom")]
    assert [(scan.id, scan.format) for scan in list_scans(tmp_path)] == [("series", "dicom")]
    one = sorted(folder.iterdir())[-1]
    assert [(scan.id, scan.format) for scan in list_scans(one)] == [("s001", "dicom")]
    assert read_image(one).is_2d


def test_one_file(tmp_path: Path) -> None:
    a_folder(tmp_path)
    assert [scan.id for scan in list_scans(tmp_path / "b.nii.gz")] == ["b"]
    assert [scan.path.name for scan in list_scans(tmp_path / "ct" / "s000.dcm")] == ["s000.dcm"]
    for name in ("LICENSE.txt", "sizes.json"):
        with pytest.raises(DataError, match="not an image"):
            list_scans(tmp_path / name)


def test_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no scan in .*: it is empty"):
        list_scans(tmp_path)
    for name in ("a.npz", "b.npz", "c.txt", "d", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"2 \.npz, 1 \.txt, 1 \(no ending\), 1 folders without DICOM") as caught:
        list_scans(tmp_path)
    assert caught.value.exit_code == 3
    assert ".nii.gz" in caught.value.line()
    with pytest.raises(DataError, match="file not found"):
        list_scans(tmp_path / "absent")


def test_two_scans_with_one_id(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(niftis.base())
    (tmp_path / "a.nii.gz").write_bytes(niftis.zipped(niftis.base()))
    with pytest.raises(DataError, match=r"a\.nii and a\.nii\.gz are both case a"):
        list_scans(tmp_path)


def test_formats(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert format_of(folder) == "dicom"
    assert format_of(folder / "b.nii.gz") == "nifti"
    with pytest.raises(DataError, match="not an image"):
        read_image(folder / "LICENSE.txt")
    with pytest.raises(DataError, match="file not found"):
        read_image(folder / "absent.mha")
