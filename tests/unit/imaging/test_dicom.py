"""DICOM series become the volume they are, or are refused with the reason."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.imaging.read import read_geometry, read_image, read_labels
from medmoe_cli.core.imaging.write import label_ending, write_labels
from tests.tools import dicoms

EVEN = np.arange(4) * 2.0


def expected(pixels: np.ndarray) -> np.ndarray:
    """(slices, rows, cols) as (X, Y, Z)."""
    return pixels.transpose(2, 1, 0)


def test_sorted_by_position_and_in_place(tmp_path: Path) -> None:
    pixels = dicoms.voxels(4)
    image = read_image(dicoms.stack(tmp_path / "scan", pixels, EVEN))
    np.testing.assert_array_equal(image.data[0], expected(pixels))
    assert image.data.dtype == np.int16
    assert image.geometry.spacing_mm == pytest.approx((0.5, 0.7, 2.0))
    # PS3.3 C.7.6.2.1.1 by hand: voxel (4, 5, 3) in LPS.
    row, col = np.array(dicoms.OBLIQUE[:3]), np.array(dicoms.OBLIQUE[3:])
    lps = np.array([-12.5, 7.25, 30.0]) + 4 * 0.5 * row + 5 * 0.7 * col + 6.0 * np.cross(row, col)
    np.testing.assert_allclose(image.geometry.to_mm(np.array([[4.0, 5, 3]]))[0], lps * [-1, -1, 1], atol=1e-9)
    geometry = read_geometry(tmp_path / "scan")
    assert geometry.shape == (5, 6, 4)
    np.testing.assert_array_equal(geometry.affine, image.geometry.affine)


def test_rescale_per_slice(tmp_path: Path) -> None:
    pixels = dicoms.voxels(2)
    whole = dicoms.stack(tmp_path / "whole", pixels, EVEN[:2], slope=2.0, intercept=-1024.0)
    image = read_image(whole)
    np.testing.assert_array_equal(image.data[0], expected(pixels.astype(np.int64) * 2 - 1024))
    assert image.data.dtype == np.int16
    broken = dicoms.stack(tmp_path / "broken", pixels[:1], EVEN[:1], slope=0.1)
    for file in dicoms.stack(tmp_path / "other", pixels[1:], EVEN[1:2], slope=0.5).iterdir():
        file.rename(broken / "other.dcm")
    image = read_image(broken)
    np.testing.assert_allclose(image.data[0, :, :, 0], expected(pixels)[..., 0] * 0.1, rtol=1e-6)
    np.testing.assert_allclose(image.data[0, :, :, 1], expected(pixels)[..., 1] * 0.5, rtol=1e-6)
    assert image.data.dtype == np.float32


def test_wide_values_do_not_wrap(tmp_path: Path) -> None:
    pixels = dicoms.voxels(2)
    image = read_image(dicoms.stack(tmp_path / "a", pixels, EVEN[:2], slope=1000.0))
    np.testing.assert_array_equal(image.data[0], expected(pixels.astype(np.int64) * 1000))
    assert image.data.dtype == np.int32


@pytest.mark.parametrize("rounding", [0.02, 0.05])
def test_rounded_positions_are_even(tmp_path: Path, rounding: float) -> None:
    depths = np.arange(30) * 0.625
    noisy = np.round(depths / rounding) * rounding
    image = read_image(dicoms.stack(tmp_path / "a", dicoms.voxels(30), noisy))
    assert image.geometry.spacing_mm[2] == pytest.approx(0.625, abs=0.01)


def test_a_missing_slice_is_a_gap(tmp_path: Path) -> None:
    for missing in (1, 10, 18):
        depths = np.delete(np.arange(20) * 2.5, missing)
        folder = dicoms.stack(tmp_path / str(missing), dicoms.voxels(19), depths)
        with pytest.raises(GeometryError, match=r"unevenly spaced.*from 2\.5 to 5 mm"):
            read_image(folder)
        with pytest.raises(GeometryError, match="unevenly spaced"):
            read_geometry(folder)


def test_a_wild_gap_is_told_with_both_numbers(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), np.array([0.0, 2.0, 136.0, 138.0]))
    with pytest.raises(GeometryError, match="from 2 to 134 mm"):
        read_image(folder)


def test_two_slices_at_one_position(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), np.array([0.0, 2.0, 2.0, 4.0]))
    with pytest.raises(GeometryError, match="two slices at one position"):
        read_image(folder)
    phases = dicoms.stack(tmp_path / "b", dicoms.voxels(4), np.array([0.0, 0.0, 2.0, 2.0]))
    with pytest.raises(GeometryError, match="two slices at one position"):
        read_image(phases)


def test_gantry_tilt(tmp_path: Path) -> None:
    lean = np.arange(4)[:, None] * 2.0 * np.tan(np.radians(12)) * np.array(dicoms.OBLIQUE[3:])
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN, drift=lean)
    with pytest.raises(GeometryError, match=r"leans 12\.0 degrees.*gantry tilt"):
        read_image(folder)


def test_a_shifted_slice(tmp_path: Path) -> None:
    drift = np.zeros((4, 3))
    drift[2] = 5 * np.array(dicoms.OBLIQUE[:3])
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN, drift=drift)
    with pytest.raises(GeometryError, match="shifted sideways by 5 mm"):
        read_image(folder)


def test_several_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN, series="1.2.3")
    dicoms.stack(folder, dicoms.voxels(2, seed=1), EVEN[:2], series="1.2.4", prefix="t")
    with pytest.raises(DataError, match=r"several DICOM series.*1\.2\.3 'series 1\.2\.3' 4 files; 1\.2\.4 .* 2 files"):
        read_image(folder)
    np.testing.assert_array_equal(read_image(folder, series="1.2.3").data[0], expected(dicoms.voxels(4)))
    np.testing.assert_array_equal(read_image(folder, series="1.2.4").data[0], expected(dicoms.voxels(2, seed=1)))
    with pytest.raises(DataError, match=r"'1\.9' is not among"):
        read_image(folder, series="1.9")


def test_what_is_no_slice_is_left_out(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN)
    dicoms.report(folder)
    scout = dicoms.slice_of(dicoms.voxels(1)[0, :3], np.zeros(3), orientation=(1, 0, 0, 0, 0, -1))
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.save_as(folder / "scout.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("hello")
    (folder / "._s000.dcm").write_bytes(b"junk")
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "DICOMDIR").write_bytes(b"no DICOM file, whatever it says")
    np.testing.assert_array_equal(read_image(folder).data[0], expected(dicoms.voxels(4)))


def test_mixed_slices_in_one_series(tmp_path: Path) -> None:
    for name, other in {
        "sizes": dicoms.slice_of(np.zeros((3, 3), np.int16), np.array([0, 0, 99.0])),
        "orientations": dicoms.slice_of(dicoms.voxels(1)[0], np.array([0, 0, 99.0]), orientation=(1, 0, 0, 0, 1, 0)),
        "pixel spacing": dicoms.slice_of(dicoms.voxels(1)[0], np.array([0, 0, 99.0]), spacing=(0.9, 0.9)),
    }.items():
        folder = dicoms.stack(tmp_path / name, dicoms.voxels(4), EVEN)
        other.save_as(folder / "other.dcm", enforce_file_format=True)
        with pytest.raises(GeometryError, match=name):
            read_image(folder)


def test_a_slice_without_position(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN)
    other = dicoms.slice_of(dicoms.voxels(1)[0], np.zeros(3))
    del other.ImagePositionPatient
    other.save_as(folder / "other.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError, match=r"slice without a position.*other\.dcm"):
        read_image(folder)


def test_one_slice_and_a_radiograph(tmp_path: Path) -> None:
    pixels = dicoms.voxels(1)
    image = read_image(dicoms.stack(tmp_path / "a", pixels, EVEN[:1]) / "s000.dcm")
    assert image.geometry.spacing_mm == pytest.approx((0.5, 0.7, 2.5))
    radiograph = dicoms.slice_of(pixels[0], np.zeros(3))
    del radiograph.ImagePositionPatient, radiograph.ImageOrientationPatient, radiograph.PixelSpacing
    radiograph.ImagerPixelSpacing = [0.14, 0.13]
    radiograph.save_as(tmp_path / "xray.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "xray.dcm")
    assert image.geometry.spacing_mm == pytest.approx((0.13, 0.14, 2.5))
    assert image.is_2d


def test_monochrome1_and_colour(tmp_path: Path) -> None:
    grey = np.arange(30, dtype=np.uint8).reshape(6, 5)
    dicoms.slice_of(grey, np.zeros(3), photometric="MONOCHROME1").save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.data[0, ..., 0].T, 255 - grey)
    assert "inverted" in image.header.notes[0]
    colour = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    dicoms.slice_of(colour, np.zeros(3)).save_as(tmp_path / "b.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.data[..., 0].transpose(2, 1, 0), colour)


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    pixels = dicoms.voxels(5)
    image = read_image(dicoms.enhanced(tmp_path / "a.dcm", pixels, step=1.5, slope=2.0, intercept=10.0))
    np.testing.assert_array_equal(image.data[0], expected(pixels[::-1].astype(int) * 2 + 10))
    assert image.geometry.spacing_mm == pytest.approx((0.5, 0.7, 1.5))
    np.testing.assert_allclose(image.geometry.affine[:3, 3], [-1, -2, 3])


def test_a_film_is_refused(tmp_path: Path) -> None:
    film = dicoms.slice_of(dicoms.voxels(1)[0], np.zeros(3))
    film.NumberOfFrames = 3
    film.PixelData = dicoms.voxels(3).tobytes()
    film.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="frames without positions"):
        read_image(tmp_path / "a.dcm")


def test_empty_text_and_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no DICOM images"):
        read_image(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.dcm").write_bytes(b"")
    (tmp_path / "b.dcm").write_text("I am no image\n" * 30)
    with pytest.raises(DataError, match="no DICOM images"):
        read_image(tmp_path)
    for name in ("a.dcm", "b.dcm"):
        with pytest.raises(DataError, match="not a DICOM file"):
            read_image(tmp_path / name)
    dicoms.report(tmp_path)
    with pytest.raises(DataError, match="only objects without pixels: 1 SR"):
        read_image(tmp_path)


def test_damage_is_never_read_as_a_volume(tmp_path: Path) -> None:
    """A cut slice among sound ones is an error, not one slice fewer."""
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN)
    victim = sorted(folder.iterdir())[1]
    whole = victim.read_bytes()
    for end in range(140, len(whole), 23):
        victim.write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_image(folder)
    victim.write_bytes(whole)
    assert read_image(folder).geometry.shape == (5, 6, 4)


def test_noise_in_the_header_is_a_data_error_or_harmless(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(3), EVEN[:3])
    victim = sorted(folder.iterdir())[0]
    whole = victim.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = bytearray(whole)
        broken[int(rng.integers(132, len(whole) - 60))] = int(rng.integers(0, 256))
        victim.write_bytes(bytes(broken))
        try:
            image = read_image(folder)
        except DataError:
            refused += 1
            continue
        assert np.isfinite(image.data).all()
    assert refused > 15


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PixelSpacing", [0.0, 1.0]),
        ("PixelSpacing", [-1.0, 1.0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]),
    ],
)
def test_bad_space(tmp_path: Path, key: str, value: list[float]) -> None:
    dataset = dicoms.slice_of(dicoms.voxels(1)[0], np.zeros(3))
    setattr(dataset, key, value)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError):
        read_image(tmp_path / "a.dcm")


def test_a_zip_of_slices(tmp_path: Path) -> None:
    folder = dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN)
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"export/{file.name}")
        archive.writestr("__MACOSX/export/._s000.dcm", b"junk")
        archive.writestr("export/readme.txt", "hello")
    image = read_image(path)
    np.testing.assert_array_equal(image.data[0], expected(dicoms.voxels(4)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        read_image(path)


def test_masks_of_a_series_lie_on_it_and_name_nobody(tmp_path: Path) -> None:
    image = read_image(dicoms.stack(tmp_path / "a", dicoms.voxels(4), EVEN))
    labels = (image.data[0] > 0).astype(np.uint8)
    path = write_labels(tmp_path / f"mask{label_ending(image)}", labels, image)
    assert path.name == "mask.nii.gz"
    assert b"JANE" not in gzip.decompress(path.read_bytes())
    back = read_labels(path)
    np.testing.assert_array_equal(back.data, labels)
    assert back.geometry.corner_distance_mm(image.geometry) < 1e-4
    itk = SimpleITK.ReadImage(str(path))
    reference = itk_series(tmp_path / "a")
    np.testing.assert_allclose(itk.GetOrigin(), reference.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(itk.GetDirection(), reference.GetDirection(), atol=1e-5)


def itk_series(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_generated_series_agree_with_itk(tmp_path: Path) -> None:
    for name, orientation in {
        "oblique": dicoms.OBLIQUE,
        "coronal": (1.0, 0, 0, 0, 0, -1),
        "x": (0.0, 1, 0, 0, 0, 1),
    }.items():
        folder = dicoms.stack(tmp_path / name, dicoms.voxels(4), EVEN, orientation=orientation)
        agrees(folder)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["dicom_ct", "dicom_mr/13_HCropVolume"])
def test_real_series_agree_with_itk(real_data: Path, name: str) -> None:
    agrees(real_data / name)


def agrees(folder: Path) -> None:
    """Same voxels at the same places as ITK's series reader (GDCM) gives."""
    image, reference = read_image(folder), itk_series(folder)
    np.testing.assert_array_equal(image.data[0], SimpleITK.GetArrayFromImage(reference).T)
    assert image.geometry.shape == reference.GetSize()
    for voxel in ((0, 0, 0), tuple(length - 1 for length in image.geometry.shape), (2, 1, 0)):
        there = np.array(reference.TransformIndexToPhysicalPoint(voxel)) * [-1, -1, 1]
        np.testing.assert_allclose(image.geometry.to_mm(np.array([voxel], float))[0], there, atol=1e-4)


@pytest.mark.realdata
def test_a_real_slice_fewer_is_a_gap(real_data: Path, tmp_path: Path) -> None:
    files = sorted(
        (real_data / "dicom_ct").iterdir(),
        key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2]),
    )
    for file in [*files[:8], *files[9:]]:
        (tmp_path / file.name).symlink_to(file)
    with pytest.raises(GeometryError, match="from 2 to 4 mm"):
        read_image(tmp_path)
