"""Random damage to a NIfTI file: refused as data, or read with the voxels that are in it."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image
from tests.tools import niftis

BASES = (niftis.base(), niftis.base(np.float32), niftis.accepted()[8].raw, niftis.nifti(niftis.voxels(), codes=(1, 0)))
# Where flips are likely to leave something that still looks like a header.
FIELD_BYTES = st.sampled_from([*range(40, 56), *range(70, 124), *range(252, 328)])


def _try(raw: bytes, name: str) -> Image | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        image = _read(path)
        if image is None:
            return None
        assert np.isfinite(image.geometry.affine).all()
        assert np.linalg.det(image.geometry.affine[:3, :3]) != 0
        if image.header.native.get_data_dtype().names is None:
            _compare_with_nibabel(path, image)
        return image


def _read(path: Path) -> Image | None:
    """The image, or None when it was refused as data; anything else that is raised is the test's failure."""
    try:
        return read_image(path)
    except DataError:
        return None


def _compare_with_nibabel(path: Path, image: Image) -> None:
    try:
        theirs = nib.load(path)
        voxels = np.asanyarray(theirs.dataobj).reshape(*image.geometry.shape, -1)
    except (HeaderDataError, ImageFileError, ValueError, OSError, KeyError):
        return  # stricter about something that is no matter of voxels
    np.testing.assert_allclose(np.moveaxis(image.data, 0, -1), voxels, rtol=1e-6)


@settings(max_examples=250)
@given(
    base=st.sampled_from(BASES),
    damage=st.lists(st.tuples(FIELD_BYTES, st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_headers(base: bytes, damage: list[tuple[int, int]]) -> None:
    raw = bytearray(base)
    for position, value in damage:
        raw[position] = value
    _try(bytes(raw), "a.nii")


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), cut=st.booleans())
def test_damaged_gzip_is_never_read_as_other_voxels(seed: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    whole = gzip.compress(niftis.base(), 6, mtime=0)
    raw = bytearray(whole)
    position = int(rng.integers(0, len(raw)))
    if cut:
        raw = raw[:position]
    else:
        raw[position] ^= 1 << int(rng.integers(0, 8))
    image = _try(bytes(raw), "a.nii.gz")
    if image is not None:  # a flip in gzip's own header (time, system) changes nothing
        assert not cut
        assert position < 10
        np.testing.assert_array_equal(image.data[0], niftis.voxels())


@settings(max_examples=60)
@given(raw=st.binary(max_size=600), name=st.sampled_from(["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.png", "a.tif"]))
def test_noise_is_no_image(raw: bytes, name: str) -> None:
    assert _try_any(raw, name) is None


def _try_any(raw: bytes, name: str) -> Image | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        return _read(path)
