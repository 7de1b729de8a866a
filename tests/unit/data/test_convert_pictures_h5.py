"""IMed-361M slices and SSL4MIS h5 files become datasets."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.data.converters.imed361m import read_sparse_masks
from medmoe_cli.core.data.index import open_dataset
from tests.tools.converting import convert, dataset_json, names
from tests.tools.datasets import phantom
from tests.tools.sources import make_imed361m, make_ssl4mis, nifti_array, picture_array


def test_imed_slices(tmp_path: Path) -> None:
    source = make_imed361m(tmp_path / "v1.2 (copy).d" / "BTCV")  # dots and brackets in a parent are no shape
    result = convert(tmp_path, source, "imed361m")
    root = result.written.root
    assert (result.written.training, result.written.test, result.written.patients) == (3, 1, 2)
    assert names(root / "imagesTs") == ["ABD_002_10_0000.png"]
    assert names(root / "labelsTs") == ["ABD_002_10.png"]
    assert [(one.what, one.why) for one in result.written.skipped] == [
        ("image/ABD_008_10.png", "not listed in dataset.json: it has no label")
    ]
    content = dataset_json(result)
    assert content["channel_names"] == {"0": "grey"}
    assert content["modality"] == {"0": "ct"}
    assert content["dimensionality"] == 2
    assert content["class_prompts"]["kidney_right"] == "right kidney"
    dataset = open_dataset(root)
    assert {case.patient for case in dataset.training} == {"ABD_001", "ABD_002"}
    _, label = phantom((40, 32, 1), classes=3, seed=1)
    assert np.array_equal(picture_array(root / "labelsTr" / "ABD_001_20.png"), label[:, :, 0].T)
    grey = picture_array(root / "imagesTr" / "ABD_001_20_0000.png")
    assert np.array_equal(grey, picture_array(source / "image" / "ABD_001_20.png")[..., 0])


@pytest.mark.parametrize(("overlap", "winner"), [("higher", 3), ("lower", 1)])
def test_imed_overlaps_are_settled_and_counted(tmp_path: Path, overlap: str, winner: int) -> None:
    source = make_imed361m(tmp_path / "BTCV", overlap=True)
    result = convert(tmp_path, source, "imed361m", overlap=overlap)
    _, label = phantom((40, 32, 1), classes=3, seed=0)
    written = picture_array(result.written.root / "labelsTr" / "ABD_001_10.png").T
    assert (written[label[:, :, 0] == 1] == winner).all()
    contested = sum(int((phantom((40, 32, 1), classes=3, seed=seed)[1] == 1).sum()) for seed in (0, 1, 50, 51))
    (note,) = [note for note in result.written.notes if "claimed by several classes" in note]
    assert note == f"{contested} voxels claimed by several classes, kept by the {overlap} value (4 cases)"


def test_imed_mask_that_contradicts_its_name(tmp_path: Path) -> None:
    source = make_imed361m(tmp_path / "BTCV")
    good = source / "label" / "x___ABD_001_10.(3, 32, 40, 1).npz"
    assert read_sparse_masks(good).shape == (3, 32, 40)
    for name, message in (
        ("x.(3, 30, 40, 1).npz", "contradicts"),
        ("x.(4, 32, 40, 1).npz", "contradicts"),
        ("x.npz", "no shape"),
    ):
        path = tmp_path / name
        path.write_bytes(good.read_bytes())
        with pytest.raises(DataError, match=message):
            read_sparse_masks(path)
    broken = tmp_path / "y.(3, 32, 40, 1).npz"
    broken.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(DataError):
        read_sparse_masks(broken)
    objects = tmp_path / "z.(3, 32, 40, 1).npz"
    np.savez(objects, indices=np.array([{}], dtype=object), format=b"csr")
    with pytest.raises(DataError):
        read_sparse_masks(objects)


def test_transposed_mask_fails_its_case(tmp_path: Path) -> None:
    source = make_imed361m(tmp_path / "BTCV")
    old = source / "label" / "x___ABD_001_10.(3, 32, 40, 1).npz"
    old.rename(source / "label" / "x___ABD_001_10.(3, 40, 32, 1).npz")
    content = (source / "dataset.json").read_text()
    (source / "dataset.json").write_text(content.replace(old.name, "x___ABD_001_10.(3, 40, 32, 1).npz"))
    (failed,) = convert(tmp_path, source, "imed361m").written.failed
    assert "32x40 against 40x32" in failed.why


def test_h5_needs_a_spacing(tmp_path: Path) -> None:
    source = make_ssl4mis(tmp_path / "ACDC")
    with pytest.raises(ConfigError, match="--spacing X Y Z"):
        convert(tmp_path, source, "ssl4mis-h5")


@pytest.mark.parametrize("slices", [False, True])
def test_h5_volumes_and_slices(tmp_path: Path, slices: bool) -> None:
    source = make_ssl4mis(tmp_path / "ACDC", slices=slices)
    result = convert(tmp_path, source, "ssl4mis-h5", spacing_mm=(1.5, 1.25, 8.0))
    root = result.written.root
    assert (result.written.training, result.written.patients) == (4, 2)
    images, label = phantom((11, 9, 4), classes=3, seed=21)
    image = nib.load(root / "imagesTr" / "patient002_frame01_0000.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), (images[0] / 255).astype(np.float32))
    assert np.allclose(image.header.get_zooms(), (1.5, 1.25, 8.0))
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert np.array_equal(nifti_array(root / "labelsTr" / "patient002_frame01.nii.gz"), label)
    assert [row.name for row in result.written.classes] == ["right_ventricle", "myocardium", "left_ventricle"]
    assert dataset_json(result)["patients"]["patient002_frame02"] == "patient002"
    assert any("frame02 end-systole" in note for note in result.written.notes)


def test_h5_slices_are_left_out_beside_their_volumes_and_gaps_fail(tmp_path: Path) -> None:
    source = make_ssl4mis(tmp_path / "ACDC")
    make_ssl4mis(source, slices=True)
    written = convert(tmp_path, source, "ssl4mis-h5", spacing_mm=(1, 1, 5)).written
    assert written.training == 4
    assert len(written.skipped) == 4
    only = make_ssl4mis(tmp_path / "slices", slices=True)
    (only / "slices" / "patient001_frame01_slice_2.h5").unlink()
    written = convert(tmp_path, only, "ssl4mis-h5", name="b", spacing_mm=(1, 1, 5)).written
    assert [one.what for one in written.failed] == ["patient001_frame01"]
    assert "[2]" in written.failed[0].why


def test_h5_of_other_data_needs_class_names(tmp_path: Path) -> None:
    source = make_ssl4mis(tmp_path / "LA")
    for path in source.glob("*.h5"):
        path.rename(path.with_name(path.name.replace("patient", "scan")))
    with pytest.raises(ConfigError, match="--label-names"):
        convert(tmp_path, source, "ssl4mis-h5", spacing_mm=(1, 1, 1))
    written = convert(tmp_path, source, "ssl4mis-h5", spacing_mm=(1, 1, 1), label_names=("a", "b", "c")).written
    assert [row.name for row in written.classes] == ["a", "b", "c"]


def test_h5_damage_fails_the_case(tmp_path: Path) -> None:
    source = make_ssl4mis(tmp_path / "ACDC")
    (source / "patient001_frame01.h5").write_bytes(b"not hdf5 at all")
    with h5py.File(source / "patient001_frame02.h5", "w") as file:
        file["image"] = np.zeros((2, 3, 4), np.float32)
    written = convert(tmp_path, source, "ssl4mis-h5", spacing_mm=(1, 1, 1)).written
    assert [one.what for one in written.failed] == ["patient001_frame01", "patient001_frame02"]
    assert "no array 'label'" in written.failed[1].why
