"""Random damage to every other format: an image or a DataError, never another exception; a cut is never an image."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_geometry, read_image
from tests.tools import dicoms

VOXELS = np.random.default_rng(0).integers(1, 200, (4, 5, 6)).astype(np.int16)


def make_corpus(folder: Path) -> dict[str, bytes]:
    """File name -> sound content, one or two of each format."""
    volume = SimpleITK.GetImageFromArray(VOXELS)
    for name in ("a.mha", "a.nrrd"):
        SimpleITK.WriteImage(volume, str(folder / name))
        SimpleITK.WriteImage(volume, str(folder / f"z{name}"), True)
    pages = [PillowImage.fromarray(page.astype(np.uint8)) for page in VOXELS]
    pages[0].save(folder / "a.png")
    pages[0].save(folder / "a.jpg")
    pages[0].save(folder / "lzw.tif", compression="tiff_lzw")
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    tifffile.imwrite(folder / "z.tif", VOXELS, photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "big.tif", VOXELS, photometric="minisblack", bigtiff=True)
    dicoms.slice_of(dicoms.voxels(1)[0], np.zeros(3)).save_as(folder / "a.dcm", enforce_file_format=True)
    dicoms.enhanced(folder / "e.dcm", dicoms.voxels(3), step=1.0, slope=2.0, intercept=1.0)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


with tempfile.TemporaryDirectory() as _folder:
    CORPUS = make_corpus(Path(_folder))


def attempt(name: str, raw: bytes) -> Image | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        try:
            read_geometry(path)
            image = read_image(path)
        except DataError:
            return None
        return image


@pytest.mark.parametrize("name", CORPUS)
def test_sound_files_are_read(name: str) -> None:
    assert attempt(name, CORPUS[name]) is not None


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(CORPUS)),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_flipped_bytes(name: str, damage: list[tuple[float, int]]) -> None:
    raw = bytearray(CORPUS[name])
    for place, value in damage:
        raw[int(place * min(len(raw), 900))] = value
    image = attempt(name, bytes(raw))
    if image is not None:
        assert np.isfinite(image.data).all()
        assert image.data.shape[1:] == image.geometry.shape


@pytest.mark.parametrize("name", CORPUS)
def test_a_cut_file_is_never_another_image(name: str) -> None:
    raw = CORPUS[name]
    sound = attempt(name, raw)
    assert sound is not None
    for end in range(0, len(raw), max(1, len(raw) // 40)):
        image = attempt(name, raw[:end])
        if image is not None:  # only what follows the pixels was cut
            np.testing.assert_array_equal(image.data, sound.data)
