"""What is written lies where its input was, keeps its header, and carries nobody's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as PillowImage

from medmoe_cli.core.base.errors import DataError, ResourceError
from medmoe_cli.core.imaging import write as write_module
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.read import read_image, read_labels
from medmoe_cli.core.imaging.write import label_ending, write_image, write_labels, write_volume
from tests.tools import niftis

CANARY = b"DOE^JANE"


def a_map(shape: tuple[int, int, int], top: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top + 1, shape).astype(np.uint8)


def named_input(folder: Path, *, codes: tuple[int, int], unit: int = 2, ending: str = ".nii.gz") -> Path:
    """A scan whose text fields and extension name the patient."""
    place = niftis.affine(degrees=20)
    image = nib.Nifti1Image(niftis.voxels(), place)
    header = image.header
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        header[field] = CANARY
    header["cal_max"], header["toffset"], header["scl_slope"], header["scl_inter"] = 400, 3.5, 2, -7
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", CANARY))
    image.set_qform(place, code=codes[0])
    image.set_sform(place, code=codes[1])
    header["xyzt_units"] = unit | 8
    path = folder / f"in{ending}"
    image.to_filename(path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (2, 4), (0, 0)])
def test_nifti_keeps_its_header(tmp_path: Path, codes: tuple[int, int], ending: str) -> None:
    like = read_image(named_input(tmp_path, codes=codes, ending=ending))
    labels = a_map(like.geometry.shape)
    out = write_labels(tmp_path / f"out{label_ending(like)}", labels, like)
    assert out.name == f"out{ending}"
    before, after = nib.load(like.header.path), nib.load(out)
    for field in ("qform_code", "sform_code", "xyzt_units", "toffset"):
        assert after.header[field] == before.header[field], field
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        np.testing.assert_array_equal(after.header[field], before.header[field])
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), labels)
    assert after.header.get_data_dtype() == np.uint8
    assert after.header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert float(after.header["cal_max"]) == 0
    raw = out.read_bytes()
    assert CANARY not in raw
    assert CANARY not in after.header.binaryblock
    assert not after.header.extensions


@pytest.mark.parametrize("unit", [0, 1, 2, 3])
def test_units_are_kept(tmp_path: Path, unit: int) -> None:
    raw = niftis.poke(niftis.nifti(niftis.voxels(), niftis.affine(spacing=(0.1, 0.1, 0.1))), "xyzt_units", unit)
    path = tmp_path / "in.nii"
    path.write_bytes(raw)
    like = read_image(path)
    out = write_labels(tmp_path / "out.nii", a_map(like.geometry.shape), like)
    assert nib.load(out).header["xyzt_units"] == unit
    back = read_labels(out)
    np.testing.assert_array_equal(back.geometry.affine, like.geometry.affine)


@pytest.mark.parametrize("odd", niftis.accepted(), ids=lambda odd: odd.name)
def test_every_sound_nifti_can_be_answered(tmp_path: Path, odd: niftis.Odd) -> None:
    path = tmp_path / odd.name
    path.write_bytes(odd.raw)
    like = read_image(path)
    labels = a_map(like.geometry.shape)
    back = read_labels(write_labels(tmp_path / f"labels{label_ending(like)}", labels, like))
    np.testing.assert_array_equal(back.data, labels)
    np.testing.assert_array_equal(back.geometry.affine, like.geometry.affine)
    probabilities = np.random.default_rng(0).random((2, *like.geometry.shape))
    maps = read_image(write_volume(tmp_path / "maps.nii.gz", probabilities, like))
    np.testing.assert_array_equal(maps.data, probabilities.astype(np.float32))
    np.testing.assert_array_equal(maps.geometry.affine, like.geometry.affine)
    again = read_image(write_image(tmp_path / "image.nii.gz", like))
    np.testing.assert_array_equal(again.data, like.data)
    assert again.data.dtype == like.data.dtype


def test_the_classes_decide_the_type(tmp_path: Path) -> None:
    like = scan((4, 5, 6))
    labels = np.zeros((4, 5, 6), np.int64)
    few = write_labels(tmp_path / "few.nii.gz", labels, like, label_names={"liver": 255})
    many = write_labels(tmp_path / "many.nii.gz", labels, like, label_names={"liver": 1, "rib": 256})
    assert nib.load(few).header.get_data_dtype() == np.uint8
    assert nib.load(many).header.get_data_dtype() == np.uint16
    labels[0, 0, 0] = 700
    found = write_labels(tmp_path / "found.nii.gz", labels, like)
    assert nib.load(found).header.get_data_dtype() == np.uint16


def test_a_flat_input_gives_a_flat_output(tmp_path: Path) -> None:
    odd = next(odd for odd in niftis.accepted() if odd.name == "flat.nii")
    path = tmp_path / "in.nii"
    path.write_bytes(odd.raw)
    like = read_image(path)
    out = write_labels(tmp_path / "out.nii", a_map(like.geometry.shape), like)
    assert nib.load(out).shape == nib.load(path).shape == (9, 8)


def test_a_moved_image_does_not_claim_its_old_place(tmp_path: Path) -> None:
    like = read_image(named_input(tmp_path, codes=(1, 1)))
    affine = like.geometry.affine.copy()
    affine[0, 3] += 11
    moved = Image(data=like.data, geometry=Geometry(shape=like.geometry.shape, affine=affine), header=like.header)
    out = write_image(tmp_path / "moved.nii.gz", moved)
    np.testing.assert_allclose(nib.load(out).affine, affine, atol=1e-5)
    assert CANARY not in nib.load(out).header.binaryblock


def scan(shape: tuple[int, int, int], *, kind: str = "dicom", affine: np.ndarray | None = None) -> Image:
    place = niftis.affine(degrees=33, spacing=(0.7, 0.7, 5.0)) if affine is None else affine
    data = niftis.voxels(shape=shape)[None]
    header = Header(format=kind, path=Path(f"somewhere.{kind}"))
    return Image(data=data, geometry=Geometry(shape=shape, affine=place), header=header)


@pytest.mark.parametrize("kind", ["dicom", "nrrd", "mha"])
def test_geometry_without_nifti_header(tmp_path: Path, kind: str) -> None:
    like = scan((6, 7, 8), kind=kind)
    labels = a_map((6, 7, 8))
    out = write_labels(tmp_path / f"out{label_ending(like)}", labels, like)
    back = read_labels(out)
    np.testing.assert_array_equal(back.data, labels)
    assert back.geometry.corner_distance_mm(like.geometry) < 1e-5
    itk = SimpleITK.ReadImage(str(out))
    assert itk.GetDimension() == 3
    assert itk.GetNumberOfComponentsPerPixel() == 1
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk).T, labels)
    np.testing.assert_allclose(itk.GetSpacing(), like.geometry.spacing_mm, rtol=1e-6)
    corner = itk.TransformIndexToPhysicalPoint((5, 6, 7))
    ras = like.geometry.to_mm(np.array([[5.0, 6, 7]]))[0]
    np.testing.assert_allclose(corner, ras * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_maps_in_every_volume_format(tmp_path: Path, ending: str, channels: int) -> None:
    like = scan((4, 5, 6))
    maps = np.random.default_rng(3).random((channels, 4, 5, 6))
    back = read_image(write_volume(tmp_path / f"p{ending}", maps if channels > 1 else maps[0], like))
    np.testing.assert_array_equal(back.data, maps.astype(np.float32))
    assert back.geometry.corner_distance_mm(like.geometry) < 1e-5


@pytest.mark.parametrize("top", [3, 999])
def test_png_in_png_out(tmp_path: Path, top: int) -> None:
    picture = np.arange(60, dtype=np.uint8).reshape(6, 10)
    PillowImage.fromarray(picture).save(tmp_path / "in.png")
    like = read_image(tmp_path / "in.png")
    assert like.data.shape == (1, 10, 6, 1)
    labels = np.zeros((10, 6, 1), np.int32)
    labels[9, 0, 0] = top
    out = write_labels(tmp_path / f"out{label_ending(like)}", labels, like)
    with PillowImage.open(out) as back:
        assert back.size == (10, 6)
        assert np.asarray(back)[0, 9] == top
        assert back.mode == ("L" if top < 256 else "I;16")
    np.testing.assert_array_equal(read_labels(out).data, labels)


def test_jpg_in_png_out(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((6, 10, 3), np.uint8)).save(tmp_path / "in.jpg")
    like = read_image(tmp_path / "in.jpg")
    assert label_ending(like) == ".png"
    labels = a_map((10, 6, 1))
    np.testing.assert_array_equal(read_labels(write_labels(tmp_path / "o.png", labels, like)).data, labels)


@pytest.mark.parametrize("pages", [1, 4])
def test_tiff_in_tiff_out_with_its_voxel_size(tmp_path: Path, pages: int) -> None:
    stack = np.random.default_rng(0).integers(0, 999, (pages, 6, 10)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", stack[0] if pages == 1 else stack, photometric="minisblack")
    (tmp_path / "in.json").write_text(json.dumps({"spacing": [5, 0.5, 0.7][-3 if pages > 1 else -2 :]}))
    like = read_image(tmp_path / "in.tif")
    assert like.geometry.spacing_mm == (0.7, 0.5, 5.0 if pages > 1 else 1.0)
    labels = a_map((10, 6, pages))
    out = write_labels(tmp_path / f"out{label_ending(like)}", labels, like)
    back = read_labels(out)
    np.testing.assert_array_equal(back.data, labels)
    assert back.geometry.spacing_mm == like.geometry.spacing_mm
    written = tifffile.imread(out)
    assert written.shape == ((pages, 6, 10) if pages > 1 else (6, 10))


def test_colour_pictures_are_written_without_loss(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 10, 6, 1)).astype(np.uint8)
    image = Image(data=data, geometry=Geometry.plain((10, 6, 1)), header=Header(format="jpg", path=Path("a.jpg")))
    for ending in (".png", ".tif"):
        np.testing.assert_array_equal(read_image(write_image(tmp_path / f"o{ending}", image)).data, data)


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    like = scan((4, 5, 6))
    for name in ("a.png", "a.jpg", "a.mhd", "a.txt", "a"):
        with pytest.raises(DataError):
            write_labels(tmp_path / name, a_map((4, 5, 6)), like)
        assert not (tmp_path / name).exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "labels",
    [np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5, 6)), np.full((4, 5, 6), -1), np.full((4, 5, 6), 70000)],
    ids=["shape", "float", "negative", "too large"],
)
def test_a_callers_mistake_is_no_data_error(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"grid|whole numbers|uint16"):
        write_labels(tmp_path / "a.nii.gz", labels, scan((4, 5, 6)))


def test_what_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that goes wrong in any way leaves the previous file."""
    like = scan((4, 5, 6))
    path = write_labels(tmp_path / "a.nii.gz", a_map((4, 5, 6)), like)
    before = path.read_bytes()
    right = write_module.write_nifti

    def other_voxels(target: Path, data: np.ndarray, source: Any, *, labels: bool) -> None:
        right(target, data + 1, source, labels=labels)

    def other_place(target: Path, data: np.ndarray, source: Any, *, labels: bool) -> None:
        right(target, data, scan((4, 5, 6), affine=np.eye(4)), labels=labels)

    def half(target: Path, data: np.ndarray, source: Any, *, labels: bool) -> None:
        right(target, data, source, labels=labels)
        target.write_bytes(target.read_bytes()[:-9])

    for wrong in (other_voxels, other_place, half):
        monkeypatch.setattr(write_module, "write_nifti", wrong)
        with pytest.raises(ResourceError, match="does not read back"):
            write_labels(path, a_map((4, 5, 6), top=2), like)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_lost_code_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = read_image(named_input(tmp_path, codes=(1, 1)))
    right = write_module.write_nifti

    def without_code(target: Path, data: np.ndarray, source: Any, *, labels: bool) -> None:
        plain = Image(data=source.data, geometry=source.geometry, header=Header(format="dicom", path=Path("x")))
        right(target, data, plain, labels=labels)
        image = nib.load(target)
        image.header["qform_code"] = 0
        nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header).to_filename(target)

    monkeypatch.setattr(write_module, "write_nifti", without_code)
    with pytest.raises(ResourceError, match="qform_code"):
        write_labels(tmp_path / "out.nii.gz", a_map(like.geometry.shape), like)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    like = scan((4, 5, 6))
    one, two = (write_labels(tmp_path / name, a_map((4, 5, 6)), like) for name in ("one.nii.gz", "two.nii.gz"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.realdata
def test_real_scans_get_their_headers_back(real_data: Path, tmp_path: Path) -> None:
    paths = [
        *sorted(real_data.glob("isles2022/rawdata/**/*.nii.gz")),
        *sorted(real_data.glob("totalsegmentator/*.nii.gz"))[:2],
        *sorted(real_data.glob("Task04_Hippocampus/imagesTr/*.nii.gz"))[:5],
    ]
    assert len(paths) == 10
    for path in paths:
        like = read_image(path)
        labels = (like.data[0] > np.median(like.data)).astype(np.uint8)
        after, before = nib.load(write_labels(tmp_path / path.name, labels, like)).header, nib.load(path).header
        for field in ("qform_code", "sform_code", "xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "dim"):
            np.testing.assert_array_equal(after[field], before[field], err_msg=f"{path.name} {field}")
