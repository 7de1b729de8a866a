"""NRRD and MetaImage read as ITK reads them, where ITK reads them right, and are refused where it guesses."""

from __future__ import annotations

import zlib
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.read import read_geometry, read_image, read_labels

SHAPE = (7, 6, 5)
TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]


def itk_image(dtype: type = np.int16, *, channels: int = 1, dims: int = 3) -> tuple[SimpleITK.Image, np.ndarray]:
    """An oblique image and its voxels (C, X, Y, Z)."""
    shape = SHAPE[:dims]
    data = np.random.default_rng(0).integers(0, 100, (channels, *shape)).astype(dtype)
    array = data.transpose(*range(dims, 0, -1), 0)
    image = SimpleITK.GetImageFromArray(array if channels > 1 else array[..., 0], isVector=channels > 1)
    image.SetSpacing((0.5, 0.75, 3.0)[:dims])
    image.SetOrigin((10.5, -20.25, 33.0)[:dims])
    image.SetDirection(TURN if dims == 3 else (1.0, 0.0, 0.0, 1.0))
    return image, data if dims == 3 else data[..., None]


def save(image: SimpleITK.Image, path: Path, *, compress: bool = False) -> Path:
    SimpleITK.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
def test_types(tmp_path: Path, name: str, dtype: type) -> None:
    image, data = itk_image(dtype)
    read = read_image(save(image, tmp_path / name))
    assert read.data.dtype == dtype
    np.testing.assert_array_equal(read.data, data)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compress", [False, True])
def test_space_channels_and_compression(tmp_path: Path, name: str, channels: int, compress: bool) -> None:
    image, data = itk_image(channels=channels)
    path = save(image, tmp_path / name, compress=compress)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, data)
    for voxel in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (6, 5, 4)):
        there = np.array(image.TransformIndexToPhysicalPoint(voxel)) * [-1, -1, 1]
        np.testing.assert_allclose(read.geometry.to_mm(np.array([voxel], float))[0], there, atol=1e-9)
    np.testing.assert_array_equal(read_geometry(path).affine, read.geometry.affine)
    assert read_geometry(path).shape == SHAPE


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_flat(tmp_path: Path, name: str) -> None:
    image, data = itk_image(dims=2)
    read = read_image(save(image, tmp_path / name))
    np.testing.assert_array_equal(read.data, data)
    assert read.is_2d
    assert read.geometry.spacing_mm[:2] == (0.5, 0.75)


@pytest.mark.parametrize(
    ("space", "sign"), [("left-posterior-superior", 1), ("RAS", -1), ("left-anterior-superior", 0)]
)
def test_nrrd_spaces(tmp_path: Path, space: str, sign: int) -> None:
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    turn = {1: np.diag([-1, -1, 1]), -1: np.eye(3), 0: np.diag([-1, 1, 1])}[sign]
    header = {"space": space, "space directions": np.diag([2.0, 3, 4]), "space origin": [5.0, 6, 7]}
    nrrd.write(str(tmp_path / "a.nrrd"), data, header)
    read = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read.data[0], data)
    np.testing.assert_allclose(read.geometry.affine[:3, :3], turn @ np.diag([2, 3, 4]))
    np.testing.assert_allclose(read.geometry.affine[:3, 3], turn @ [5, 6, 7])


def test_nrrd_with_spacings_alone(tmp_path: Path) -> None:
    data = np.zeros((2, 3, 4), np.int16)
    nrrd.write(str(tmp_path / "a.nrrd"), data, {"spacings": [2.0, 3.0, 4.0]})
    assert read_image(tmp_path / "a.nrrd").geometry.spacing_mm == (2.0, 3.0, 4.0)


def test_nrrd_with_a_slice_in_space(tmp_path: Path) -> None:
    header = {"space": "LPS", "space directions": np.array([[2.0, 0, 0], [0, 0, 3.0]]), "space origin": [5.0, 6, 7]}
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros((4, 5), np.uint8), header)
    read = read_image(tmp_path / "a.nrrd")
    assert read.geometry.spacing_mm == (2.0, 3.0, 1.0)


def test_big_endian_metaimage(tmp_path: Path) -> None:
    data = np.arange(24, dtype=">i2")
    header = "ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = True\nDimSize = 2 3 4\nElementType = MET_SHORT\n"
    path = tmp_path / "a.mha"
    path.write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + data.tobytes())
    np.testing.assert_array_equal(read_image(path).data[0], np.arange(24).reshape((2, 3, 4), order="F"))


def test_metaimage_with_time(tmp_path: Path) -> None:
    data = np.arange(48, dtype="<i2")
    header = "NDims = 4\nDimSize = 2 3 4 2\nElementSpacing = 1 2 3 9\nElementType = MET_SHORT\n"
    path = tmp_path / "a.mha"
    path.write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + data.tobytes())
    read = read_image(path)
    expected = np.moveaxis(data.reshape((2, 3, 4, 2), order="F"), -1, 0)
    np.testing.assert_array_equal(read.data, expected)
    assert read.geometry.spacing_mm == (1.0, 2.0, 3.0)


HEADER = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
BAD_METAIMAGES = {
    "empty": b"",
    "text": b"hello\n" * 30,
    "no data file": HEADER.encode().replace(b"ElementDataFile", b"Elsewhere") + bytes(24),
    "short": HEADER.encode() + bytes(23),
    "long": HEADER.encode() + bytes(25),
    "one axis": HEADER.encode().replace(b"NDims = 3", b"NDims = 1") + bytes(24),
    "axes and sizes": HEADER.encode().replace(b"2 3 4", b"2 3") + bytes(24),
    "axis of 0": HEADER.encode().replace(b"2 3 4", b"2 0 4"),
    "negative axis": HEADER.encode().replace(b"2 3 4", b"2 -3 -4") + bytes(24),
    "words": HEADER.encode().replace(b"2 3 4", b"two three four") + bytes(24),
    "huge": HEADER.encode().replace(b"2 3 4", b"99999 99999 99999") + bytes(24),
    "huge, compressed": HEADER.encode()
    .replace(b"2 3 4", b"99999 99999 99999")
    .replace(b"NDims", b"CompressedData = True\nNDims"),
    "type": HEADER.encode().replace(b"MET_UCHAR", b"MET_STRING") + bytes(24),
    "text voxels": b"BinaryData = False\n" + HEADER.encode() + b"0 " * 24,
    "spacing 0": b"ElementSpacing = 1 0 1\n" + HEADER.encode() + bytes(24),
    "spacing nan": b"ElementSpacing = 1 nan 1\n" + HEADER.encode() + bytes(24),
    "sheared": b"TransformMatrix = 1 0 0 0.5 0.86 0 0 0 1\n" + HEADER.encode() + bytes(24),
    "singular": b"TransformMatrix = 1 0 0 1 0 0 0 0 1\n" + HEADER.encode() + bytes(24),
    "offset": b"Offset = 1 2\n" + HEADER.encode() + bytes(24),
    "other folder": HEADER.encode().replace(b"LOCAL", b"../secret.raw") + bytes(24),
    "absolute": HEADER.encode().replace(b"LOCAL", b"/etc/passwd") + bytes(24),
    "null byte": HEADER.encode().replace(b"LOCAL", b"a\0.raw"),
    "list": HEADER.encode().replace(b"LOCAL", b"LIST") + bytes(24),
    "absent file": HEADER.encode().replace(b"LOCAL", b"absent.raw"),
    "skip": b"HeaderSize = 99\n" + HEADER.encode() + bytes(24),
    "no zlib": b"CompressedData = True\n" + HEADER.encode() + bytes(24),
    "cut zlib": b"CompressedData = True\n" + HEADER.encode() + zlib.compress(bytes(range(24)))[:-5],
    "zlib and more": b"CompressedData = True\n" + HEADER.encode() + zlib.compress(bytes(24)) + b"x",
    "zlib of more": b"CompressedData = True\n" + HEADER.encode() + zlib.compress(bytes(25)),
    "zlib of less": b"CompressedData = True\n" + HEADER.encode() + zlib.compress(bytes(23)),
}


@pytest.mark.parametrize("kind", BAD_METAIMAGES)
def test_bad_metaimage(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mha"
    path.write_bytes(BAD_METAIMAGES[kind])
    with pytest.raises(DataError):
        read_image(path)


def test_detached_voxels_stay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "voxels.raw").write_bytes(bytes(24))
    path = tmp_path / "in" / "a.mhd"
    for name in ("../voxels.raw", str(tmp_path / "voxels.raw"), "..\\voxels.raw"):
        path.write_text(HEADER.replace("LOCAL", name))
        with pytest.raises(DataError, match="not one file in the same folder"):
            read_image(path)


NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n\n"
BAD_NRRDS = {
    "empty": b"",
    "magic": b"NRRX" + NRRD.encode()[4:] + bytes(24),
    "version": b"NRRD9999\n" + NRRD.encode().split(b"\n", 1)[1] + bytes(24),
    "short": NRRD.encode() + bytes(23),
    "long": NRRD.encode() + bytes(25),
    "no type": NRRD.encode().replace(b"type: uchar\n", b"") + bytes(24),
    "type": NRRD.encode().replace(b"uchar", b"block") + bytes(24),
    "no sizes": NRRD.encode().replace(b"sizes: 2 3 4\n", b"") + bytes(24),
    "sizes": NRRD.encode().replace(b"2 3 4", b"2 3") + bytes(24),
    "axis of 0": NRRD.encode().replace(b"2 3 4", b"2 0 4"),
    "words": NRRD.encode().replace(b"2 3 4", b"a b c") + bytes(24),
    "huge": NRRD.encode().replace(b"2 3 4", b"99999 99999 99999") + bytes(24),
    "endian": NRRD.encode().replace(b"uchar", b"short") + bytes(48),
    "encoding": NRRD.encode().replace(b"raw", b"ascii") + b"0 " * 24,
    "no gzip": NRRD.encode().replace(b"raw", b"gzip") + bytes(24),
    "separate": NRRD.encode().replace(b"encoding", b"data file: /etc/passwd\nencoding"),
    "skip": NRRD.encode().replace(b"encoding", b"byte skip: 3\nencoding") + bytes(27),
    "space": NRRD.encode().replace(
        b"encoding", b"space: scanner-xyz\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nencoding"
    )
    + bytes(24),
    "sheared": NRRD.encode().replace(
        b"encoding", b"space: LPS\nspace directions: (1,0,0) (0.7,0.7,0) (0,0,1)\nencoding"
    )
    + bytes(24),
    "singular": NRRD.encode().replace(b"encoding", b"space: LPS\nspace directions: (1,0,0) (0,0,0) (0,0,1)\nencoding")
    + bytes(24),
    "vectors": NRRD.encode().replace(b"encoding", b"space: LPS\nspace directions: (1,0,0) (0,1)\nencoding") + bytes(24),
    "origin": NRRD.encode().replace(
        b"encoding", b"space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (1,nan,2)\nencoding"
    )
    + bytes(24),
    "spacings": NRRD.encode().replace(b"encoding", b"spacings: 1 -2 1\nencoding") + bytes(24),
}


@pytest.mark.parametrize("kind", BAD_NRRDS)
def test_bad_nrrd(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(BAD_NRRDS[kind])
    with pytest.raises(DataError):
        read_image(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("compress", [False, True])
def test_every_cut_is_noticed(tmp_path: Path, name: str, compress: bool) -> None:
    path = save(itk_image()[0], tmp_path / name, compress=compress)
    whole = path.read_bytes()
    for end in range(0, len(whole), max(len(whole) // 23, 1)):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_image(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_nan_is_noticed(tmp_path: Path, name: str) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="1 NaN"):
        read_image(save(SimpleITK.GetImageFromArray(array), tmp_path / name))


def test_labels(tmp_path: Path) -> None:
    image, data = itk_image(np.float32)
    read = read_labels(save(image, tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(read.data, data[0])
    assert read.data.dtype == np.uint8
    image, _ = itk_image(channels=3)
    with pytest.raises(DataError, match="3 channels"):
        read_labels(save(image, tmp_path / "b.nrrd"))
