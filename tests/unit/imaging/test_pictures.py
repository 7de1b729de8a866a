"""PNG, JPG and TIFF: every mode reads as what it shows, or as the labels it holds; damage is noticed."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.read import read_geometry, read_image, read_labels

ROWS, COLS = 5, 8
GREY = np.random.default_rng(0).integers(0, 256, (ROWS, COLS)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (ROWS, COLS, 3)).astype(np.uint8)
LABEL = np.random.default_rng(2).integers(0, 4, (ROWS, COLS)).astype(np.uint8)


def palette(indices: np.ndarray) -> PillowImage.Image:
    picture = PillowImage.fromarray(indices, mode="P")
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, 10, 10, 200])
    return picture


def pictures() -> dict[str, tuple[PillowImage.Image, np.ndarray, np.ndarray | None]]:
    """mode -> (picture, the image it must read as (rows, cols, C), the labels or None where it has none)."""
    alpha = np.full((ROWS, COLS, 1), 128, np.uint8)
    colours = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10], [10, 10, 200]], np.uint8)
    bits = LABEL % 2
    wide = GREY.astype(np.uint16) * 257
    same = np.repeat(LABEL[..., None], 3, axis=2)
    return {
        "L": (PillowImage.fromarray(GREY), GREY[..., None], GREY),
        "1": (PillowImage.fromarray(bits * 255).convert("1"), bits[..., None] * 255, bits),
        "P": (palette(LABEL), colours[LABEL], LABEL),
        "I;16": (PillowImage.fromarray(wide), wide[..., None], wide),
        "RGB": (PillowImage.fromarray(COLOUR), COLOUR, None),
        "RGB of greys": (PillowImage.fromarray(same), same, LABEL),
        "RGBA": (PillowImage.fromarray(np.concatenate([COLOUR, alpha], axis=2)), COLOUR, None),
        "LA": (PillowImage.fromarray(np.concatenate([GREY[..., None], alpha], axis=2)), GREY[..., None], GREY),
    }


@pytest.mark.parametrize("mode", pictures())
def test_png_modes(tmp_path: Path, mode: str) -> None:
    picture, shown, labels = pictures()[mode]
    path = tmp_path / "a.png"
    picture.save(path)
    image = read_image(path)
    assert image.is_2d
    np.testing.assert_array_equal(image.data[..., 0].transpose(2, 1, 0), shown)
    assert image.data.dtype == shown.dtype
    np.testing.assert_array_equal(image.geometry.affine, Geometry.plain((COLS, ROWS, 1)).affine)
    assert read_geometry(path).shape == (COLS, ROWS, 1)
    if labels is None:
        with pytest.raises(DataError, match="a label in colours"):
            read_labels(path)
    else:
        read = read_labels(path)
        np.testing.assert_array_equal(read.data[..., 0].T, labels)


def test_jpg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    for name, picture in {"a.jpg": smooth, "b.JPEG": np.stack([smooth, smooth // 2, 255 - smooth], axis=2)}.items():
        PillowImage.fromarray(picture).save(tmp_path / name, format="JPEG", quality=95)
        image = read_image(tmp_path / name)
        assert image.data.shape == (1 if picture.ndim == 2 else 3, 60, 40, 1)
        back = image.data[..., 0].transpose(2, 1, 0)
        assert np.abs(back.astype(int) - picture.reshape(40, 60, -1)).max() < 12


def test_16_bit_colour_says_that_it_lost_precision(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(range(6 * 4)) for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    image = read_image(path)
    assert image.data.shape == (3, 4, 3, 1)
    assert image.header.notes == ("16-bit colour was read as 8-bit",)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_every_cut_is_noticed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for share in (0.0, 0.05, 0.3, 0.7, 0.97):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError):
            read_image(path)


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PillowImage.fromarray(GREY).save(path)
    whole = path.read_bytes()
    for position in range(33, len(whole) - 12, 3):
        broken = bytearray(whole)
        broken[position] ^= 4
        path.write_bytes(bytes(broken))
        with pytest.raises(DataError):
            read_image(path)


@pytest.mark.parametrize(("content", "name"), [("png", "a.jpg"), ("jpeg", "a.png"), ("png", "a.tif"), ("gif", "a.png")])
def test_another_kind_than_its_name(tmp_path: Path, content: str, name: str) -> None:
    PillowImage.fromarray(GREY).save(tmp_path / name, format=content)
    with pytest.raises(DataError, match="not a"):
        read_image(tmp_path / name)


def test_a_picture_too_large_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    PillowImage.fromarray(np.zeros((40, 40), np.uint8)).save(path)
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError, match="damaged picture"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("kind", ["grey", "wide", "float", "colour"])
def test_tiff_pages(tmp_path: Path, kind: str, compression: str | None) -> None:
    array = {
        "grey": GREY,
        "wide": GREY.astype(np.uint16) * 250,
        "float": GREY.astype(np.float32) / 7,
        "colour": COLOUR,
    }[kind]
    path = tmp_path / "a.tif"
    if compression in ("packbits", "tiff_lzw"):
        PillowImage.fromarray(array).save(path, compression=compression)
    else:
        photometric = "rgb" if kind == "colour" else "minisblack"
        tifffile.imwrite(path, array, compression=compression, photometric=photometric)
    image = read_image(path)
    expected = array if array.ndim == 3 else array[..., None]
    np.testing.assert_array_equal(image.data[..., 0].transpose(2, 1, 0), expected)
    assert image.data.dtype == array.dtype
    assert read_geometry(path).shape == (COLS, ROWS, 1)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_stack(tmp_path: Path, byteorder: str) -> None:
    stack = np.random.default_rng(0).integers(0, 999, (6, ROWS, COLS)).astype(np.int16)
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, stack, photometric="minisblack", byteorder=byteorder)
    image = read_image(path)
    np.testing.assert_array_equal(image.data[0].transpose(2, 1, 0), stack)
    assert image.data.dtype.isnative
    assert image.geometry.spacing_mm == (1.0, 1.0, 1.0)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 0.5, 0.25]}))
    assert read_image(path).geometry.spacing_mm == (0.25, 0.5, 3.0)
    assert read_geometry(path).spacing_mm == (0.25, 0.5, 3.0)


def test_tiff_bool_and_lzw_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, LABEL > 1)
    assert set(np.unique(read_image(path).data)) == {0, 255}
    pages = [PillowImage.fromarray(np.full((ROWS, COLS), value, np.uint8)) for value in (3, 1, 2)]
    pages[0].save(path, compression="tiff_lzw", save_all=True, append_images=pages[1:])
    assert read_image(path).data[0, 0, 0].tolist() == [3, 1, 2]


@pytest.mark.parametrize("spacing", [[1, 0, 1], [1], "1", [1, 2, 3, 4], [1, "a", 2], [1, -1, 1]])
def test_bad_voxel_size_beside_a_tiff(tmp_path: Path, spacing: object) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": spacing}))
    with pytest.raises(DataError, match="bad voxel size"):
        read_image(tmp_path / "a.tif")


def test_tiff_of_several_sizes_and_with_time(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(GREY)
        tiff.write(GREY[:3])
    with pytest.raises(DataError, match="2 images of different sizes"):
        read_image(tmp_path / "a.tif")
    five = np.zeros((2, 3, ROWS, COLS), np.uint8)
    tifffile.imwrite(tmp_path / "b.ome.tif", five, metadata={"axes": "TZYX"}, photometric="minisblack")
    with pytest.raises(DataError, match="axes"):
        read_image(tmp_path / "b.ome.tif")


def test_tiff_with_nan(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="16 NaN"):
        read_image(tmp_path / "a.tif")


@pytest.mark.realdata
def test_real_pictures(real_data: Path) -> None:
    paths = [*real_data.glob("sz_cxr/*/*.png"), *real_data.glob("isic/*/*.*"), *real_data.glob("BTCV/image/*.png")]
    assert len(paths) > 100
    for path in sorted(paths)[::12]:
        with PillowImage.open(path) as picture:
            expected = np.asarray(picture)
        image = read_image(path)
        np.testing.assert_array_equal(image.data[..., 0].transpose(2, 1, 0).squeeze(), expected)
