"""Plain folders: pairing by id, what mask values mean, and every supported format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.write import write_image
from tests.tools import dicoms
from tests.tools.converting import convert, dataset_json, lines_of, names
from tests.tools.datasets import phantom, write_nifti, write_picture
from tests.tools.sources import AFFINE, make_pictures, nifti_array, picture_array


def volumes(root: Path, stems: dict[str, str], *, labels: str = "", images: str = "", values: int = 2) -> Path:
    """NIfTI images (stem -> label stem) below `images` and `labels`."""
    for number, (stem, label_stem) in enumerate(stems.items()):
        image, label = phantom((10, 9, 6), classes=values, seed=number)
        write_nifti(root / images / f"{stem}.nii.gz", image[0].astype(np.int16), AFFINE)
        if label_stem:
            write_nifti(root / labels / f"{label_stem}.nii.gz", label, AFFINE)
    return root


def refused(tmp_path: Path, source: Path, **options: Any) -> list[str]:
    with pytest.raises(MedMoEError) as caught:
        convert(tmp_path, source, "folder", name="refused", **options)
    assert not (tmp_path / "ws" / "datasets" / "refused").exists()
    return lines_of(caught.value)


def test_soft_masks_are_thresholded_and_said(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "cxr", soft=True)
    assert len(np.unique(picture_array(source / "masks" / "scan_0_mask.png"))) > 16
    result = convert(tmp_path, source, "folder", label_names=("lung",))
    assert dataset_json(result)["labels"] == {"background": 0, "lung": 1}
    assert any("soft edges" in note and "above 127" in note for note in result.written.notes)
    mask = picture_array(result.written.root / "labelsTr" / "scan_1.png")
    assert np.array_equal(mask, picture_array(source / "masks" / "scan_1_mask.png") > 127)


def test_0_255_masks_become_1_and_colour_stays(tmp_path: Path) -> None:
    result = convert(tmp_path, make_pictures(tmp_path / "isic", colour=True), "folder")
    root = result.written.root
    assert dataset_json(result)["source_values"] == {"1": [255]}
    assert dataset_json(result)["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert any("255 is now 1" in note for note in result.written.notes)
    image = picture_array(root / "imagesTr" / "scan_2_0000.png")
    assert np.array_equal(image, picture_array(tmp_path / "isic" / "images" / "scan_2.png"))
    assert set(np.unique(picture_array(root / "labelsTr" / "scan_2.png"))) == {0, 1}


def test_jpg_images_become_png(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "jpg", colour=True)
    for path in (source / "images").iterdir():
        Picture.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    root = convert(tmp_path, source, "folder").written.root
    written = picture_array(root / "imagesTr" / "scan_0_0000.png")
    assert np.array_equal(written, picture_array(source / "images" / "scan_0.jpg"))


def test_palette_pictures_in_grey(tmp_path: Path) -> None:
    """Shenzhen X-rays are palette PNGs whose colours are grey."""
    source = make_pictures(tmp_path / "p")
    for path in (source / "images").iterdir():
        Picture.open(path).convert("P").save(path)
    result = convert(tmp_path, source, "folder")
    assert dataset_json(result)["channel_names"] == {"0": "grey"}


def test_a_label_map_for_chaos_greys(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "chaos", cases=2)
    for number in range(2):
        _, label = phantom((48, 40, 1), classes=4, seed=number)
        write_picture(source / "masks" / f"scan_{number}_mask.png", (label[:, :, 0] * 63).astype(np.uint8))
    names_given = ("liver", "right_kidney", "left_kidney", "spleen")
    table = {63: 1, 126: 2, 189: 3, 252: 4}
    result = convert(tmp_path, source, "folder", label_map=table, label_names=names_given)
    assert dataset_json(result)["source_values"] == {"1": [63], "2": [126], "3": [189], "4": [252]}
    mask = picture_array(result.written.root / "labelsTr" / "scan_1.png").T
    assert np.array_equal(mask, phantom((48, 40, 1), classes=4, seed=1)[1][:, :, 0])
    merged = convert(tmp_path, source, "folder", name="m", label_map={63: 1, 126: 2, 189: 2, 252: 0})
    assert [(row.name, row.source_values) for row in merged.written.classes] == [
        ("class_1", (63,)),
        ("class_2", (126, 189)),
    ]
    (line,) = refused(tmp_path, source, label_map={63: 1, 126: 2})
    assert "189 (in 2 files), 252 (in 2 files)" in line
    assert "targets are [1, 3]" in refused(tmp_path, source, label_map={63: 1, 126: 3, 189: 3, 252: 1})[0]
    assert "3 label names for 4 classes" in refused(tmp_path, source, label_map=table, label_names=("a", "b", "c"))[0]


def test_label_names_must_fit_the_values(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {"a": "a_seg", "b": "b_seg"}, values=3)
    (line,) = refused(tmp_path, source, label_names=("x", "y"))
    assert "2 label names for 3 label values: the values are 1, 2, 3" in line
    written = convert(tmp_path, source, "folder", label_names=("x", "y", "z", "rare")).written
    assert [(row.name, row.cases) for row in written.classes] == [("x", 2), ("y", 2), ("z", 2), ("rare", 0)]


def test_images_given_as_labels_are_noticed(tmp_path: Path) -> None:
    for number in range(2):
        image = (np.arange(40 * 48).reshape(48, 40) % 251).astype(np.uint8)
        write_picture(tmp_path / "src" / "a" / f"{number}.png", image)
        write_picture(tmp_path / "src" / "b" / f"{number}.png", (image.astype(int) * 5 + 3).astype(np.uint16))
    (line,) = refused(tmp_path, tmp_path / "src", images=Path("a"), labels=Path("b"))
    assert "look like images, not label maps: 251 different values" in line


def test_masks_without_foreground(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "src")
    for path in (source / "masks").iterdir():
        write_picture(path, np.zeros((48, 40), np.uint8))
    assert "no label has foreground" in refused(tmp_path, source)[0]


@pytest.mark.parametrize("suffix", ["_mask", "_SEG", "_label", "-mask", "_gt", "_Segmentation"])
def test_default_suffixes_in_one_folder(tmp_path: Path, suffix: str) -> None:
    source = volumes(tmp_path / "src", {"a": f"a{suffix}", "b_2": f"b_2{suffix}"})
    root = convert(tmp_path, source, "folder").written.root
    assert names(root / "labelsTr") == ["a.nii.gz", "b_2.nii.gz"]


def test_two_folders_of_equal_names(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {"x_mask": "x_mask", "y": "y_gt"}, images="images", labels="labels")
    root = convert(tmp_path, source, "folder", images=Path("images"), labels=Path("labels")).written.root
    assert names(root / "labelsTr") == ["x_mask.nii.gz", "y.nii.gz"]
    (line,) = refused(tmp_path, source, images=Path("imagez"), labels=Path("labels"))
    assert "there is images, labels" in line


def test_unmatched_files_are_all_named_or_left_out(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {"a": "a_seg", "b": "", "c": "", "d": "d_seg"})
    (source / "d.nii.gz").unlink()
    found = refused(tmp_path, source)
    assert len(found) == 3
    assert sum("image without a label" in line for line in found) == 2
    assert sum("label without an image" in line for line in found) == 1
    result = convert(tmp_path, source, "folder", allow_unmatched=True)
    assert (result.written.training, len(result.written.skipped), result.exit_code) == (1, 3, 0)


def test_ambiguous_files_are_refused(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {"a": "a_seg", "b": "b_seg", "c": "c_seg"})
    write_nifti(source / "more" / "a.nii.gz", np.zeros((10, 9, 6), np.int16), AFFINE)
    write_nifti(source / "b_mask.nii.gz", np.zeros((10, 9, 6), np.uint8), AFFINE)
    joined = "\n".join(refused(tmp_path, source))
    assert "several images of case 'a'" in joined
    assert "several labels of case 'b'" in joined
    written = convert(tmp_path, source, "folder", allow_unmatched=True).written
    assert names(written.root / "labelsTr") == ["c.nii.gz"]


def test_channel_numbers_and_ids_that_only_look_like_them(tmp_path: Path) -> None:
    source = volumes(tmp_path / "two", {"p_0000": "", "p_0001": "", "q_0000": "", "q_0001": ""}, images="i")
    for case in ("p", "q"):
        write_nifti(source / "l" / f"{case}.nii.gz", phantom((10, 9, 6), seed=5)[1], AFFINE)
    options = {"images": Path("i"), "labels": Path("l")}
    result = convert(tmp_path, source, "folder", channels=("T1", "T2"), **options)
    assert names(result.written.root / "labelsTr") == ["p.nii.gz", "q.nii.gz"]
    assert dataset_json(result)["channel_names"] == {"0": "T1", "1": "T2"}
    for stems in ({"amos_0507": "amos_0507", "amos_0600": "amos_0600"}, {"amos_0000": "amos_0000"}):
        name = f"amos{len(stems)}"
        amos = volumes(tmp_path / name, stems, images="i", labels="l")
        root = convert(tmp_path, amos, "folder", name=name, **options).written.root
        assert names(root / "imagesTr") == [f"{stem}_0000.nii.gz" for stem in stems]
    assert "3 channel names for 2 channels" in refused(tmp_path, source, channels=("a", "b", "c"), **options)[0]


def test_channels_by_suffix(tmp_path: Path) -> None:
    """ISLES names its channels: x_dwi, x_adc, mask x_msk."""
    source = volumes(tmp_path / "src", {"s1_dwi": "s1_msk", "s1_adc": "", "s2_dwi": "s2_msk", "s2_adc": ""})
    options = {"image_suffixes": ("_dwi", "_adc"), "label_suffix": "_msk"}
    result = convert(tmp_path, source, "folder", **options)
    assert dataset_json(result)["channel_names"] == {"0": "dwi", "1": "adc"}
    written = nifti_array(result.written.root / "imagesTr" / "s2_0001.nii.gz")
    assert np.array_equal(written, nifti_array(source / "s2_adc.nii.gz"))
    (source / "s2_adc.nii.gz").unlink()
    assert any("has no _adc" in line for line in refused(tmp_path, source, **options))


def test_channels_on_different_grids_fail_the_case(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {"s1_dwi": "s1_msk", "s1_flair": "", "s2_dwi": "s2_msk", "s2_flair": ""})
    write_nifti(source / "s1_flair.nii.gz", np.ones((20, 18, 3), np.int16), AFFINE)
    result = convert(tmp_path, source, "folder", image_suffixes=("_dwi", "_flair"), label_suffix="_msk")
    (failed,) = result.written.failed
    assert failed.what == "s1"
    assert "10x9x6 against 20x18x3" in failed.why
    assert result.exit_code == 6


@pytest.mark.parametrize("nested", [False, True])
def test_one_mask_file_per_class(tmp_path: Path, nested: bool) -> None:
    source = tmp_path / "src"
    expected = {}
    for case in ("s_1", "s_1_b"):
        images, label = phantom((48, 40, 1), classes=2, seed=len(case))
        write_picture(source / "images" / f"{case}.png", np.clip(images[0][:, :, 0], 0, 255).astype(np.uint8))
        for value, name in ((1, "kidney_left"), (2, "liver")):
            mask = np.where(label[:, :, 0] == value, 255, 0).astype(np.uint8)
            top = mask.copy()
            top[:, 20:] = 0
            stem = f"{case}/{name}" if nested else f"{case}_{name}"
            write_picture(source / "masks" / f"{stem}_000.png", top)
            write_picture(source / "masks" / f"{stem}_001.png", mask - top)
        expected[case] = label[:, :, 0].T
    options: dict[str, Any] = {"images": Path("images"), "labels": Path("masks"), "class_files": True}
    result = convert(tmp_path, source, "folder", **options)
    assert dataset_json(result)["labels"] == {"background": 0, "kidney_left": 1, "liver": 2}
    for case, label in expected.items():
        assert np.array_equal(picture_array(result.written.root / "labelsTr" / f"{case}.png"), label)
    (line,) = refused(tmp_path, source, label_names=("liver",), **options)
    assert "kidney_left" in line


def test_class_masks_that_overlap_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "src"
    write_nifti(source / "i" / "a.nii.gz", phantom((10, 9, 6))[0][0].astype(np.int16), AFFINE)
    one, two = np.zeros((10, 9, 6), np.uint8), np.zeros((10, 9, 6), np.uint8)
    one[2:6], two[5:8] = 1, 1
    write_nifti(source / "l" / "a_aorta.nii.gz", one, AFFINE)
    write_nifti(source / "l" / "a_vein.nii.gz", two, AFFINE)
    options: dict[str, Any] = {"images": Path("i"), "labels": Path("l"), "class_files": True}
    result = convert(tmp_path, source, "folder", overlap="lower", **options)
    label = nifti_array(result.written.root / "labelsTr" / "a.nii.gz")
    assert (label[5] == 1).all()
    assert any(note.startswith("54 voxels claimed") for note in result.written.notes)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_volume_formats_keep_their_place(tmp_path: Path, ending: str) -> None:
    grid = Geometry(shape=(10, 9, 6), affine=AFFINE)
    images, label = phantom((10, 9, 6), seed=3)
    for stem, data in (("v", images[0].astype(np.int16)), ("v_seg", label)):
        path = tmp_path / "src" / f"{stem}{ending}"
        path.parent.mkdir(exist_ok=True)
        write_image(path, Image(data=data[None], geometry=grid, header=Header(format="test", path=path)))
    root = convert(tmp_path, tmp_path / "src", "folder", modality="CT").written.root
    written = nib.load(root / "imagesTr" / "v_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), images[0].astype(np.int16))
    assert np.allclose(written.affine, AFFINE, atol=1e-5)
    assert np.array_equal(nifti_array(root / "labelsTr" / "v.nii.gz"), label)
    assert open_dataset(root).channels == ("CT",)


def test_dicom_series_in_sub_folders(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number, case in enumerate(("ct_a", "ct_b")):
        folder = source / "images" / case
        folder.mkdir(parents=True)
        dicoms.stack(folder, dicoms.voxels(4, seed=number), np.arange(4) * 2.5)
    from medmoe_cli.core.imaging.read import read_image

    for case in ("ct_a", "ct_b"):
        image = read_image(source / "images" / case)
        label = (image.data[0] > 0).astype(np.uint8)
        write_nifti(source / "labels" / f"{case}.nii.gz", label, image.geometry.affine)
    result = convert(tmp_path, source, "folder", images=Path("images"), labels=Path("labels"))
    assert dataset_json(result)["channel_names"] == {"0": "CT"}
    assert dataset_json(result)["modality"] == {"0": "CT"}
    written = nib.load(result.written.root / "imagesTr" / "ct_b_0000.nii.gz")
    image = read_image(source / "images" / "ct_b")
    assert np.array_equal(np.asanyarray(written.dataobj), image.data[0])
    assert np.allclose(written.affine, image.geometry.affine, atol=1e-4)
    assert "DOE" not in (result.written.root / "dataset.json").read_text()


def test_tiff_stacks_need_a_spacing(tmp_path: Path) -> None:
    images, label = phantom((12, 10, 5), seed=1)
    source = tmp_path / "src"
    source.mkdir()
    tifffile.imwrite(source / "t.tif", images[0].transpose(2, 1, 0).astype(np.uint8), photometric="minisblack")
    tifffile.imwrite(source / "t_mask.tif", label.transpose(2, 1, 0), photometric="minisblack")
    assert "--spacing X Y Z" in refused(tmp_path, source)[0]
    root = convert(tmp_path, source, "folder", spacing_mm=(0.4, 0.5, 3.0)).written.root
    written = nib.load(root / "imagesTr" / "t_0000.nii.gz")
    assert np.allclose(written.header.get_zooms(), (0.4, 0.5, 3.0))
    assert np.array_equal(np.asanyarray(written.dataobj), images[0].astype(np.uint8))
    assert np.array_equal(nifti_array(root / "labelsTr" / "t.nii.gz"), label)


def test_spacing_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PNG holds no voxel size"):
        convert(tmp_path, make_pictures(tmp_path / "p"), "folder", spacing_mm=(1, 1, 1))
    source = volumes(tmp_path / "v", {"a": "a_seg"})
    with pytest.raises(DataError, match="carry their own"):
        convert(tmp_path, source, "folder", spacing_mm=(1, 1, 1))


def test_patients_by_regex_and_the_hint_without(tmp_path: Path) -> None:
    source = volumes(tmp_path / "src", {name: f"{name}_seg" for name in ("A_1", "A_2", "B_1", "B_2")})
    result = convert(tmp_path, source, "folder")
    assert any("look like 2 patients" in note for note in result.written.notes)
    result = convert(tmp_path, source, "folder", name="two", patient_regex=r"(.+)_\d+")
    assert result.written.patients == 2
    assert {case.patient for case in open_dataset(result.written.root).training} == {"A", "B"}
    for bad in ("(", r"A_\d"):
        with pytest.raises(ConfigError, match="patient-regex"):
            convert(tmp_path, source, "folder", name="bad", patient_regex=bad)
