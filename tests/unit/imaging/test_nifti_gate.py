"""The gate refuses every malformed NIfTI in one line, and reads every odd but sound one right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.read import read_geometry, read_image
from tests.tools import niftis

ACCEPTED = niftis.accepted()


def test_there_are_enough_kinds() -> None:
    assert len(niftis.REJECTED) >= 80
    assert len(ACCEPTED) >= 30


@pytest.mark.parametrize("kind", niftis.REJECTED)
def test_malformed_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    name, make = niftis.REJECTED[kind]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(DataError) as caught:
        read_image(path)
    line = caught.value.line()
    assert caught.value.exit_code == 3
    assert str(path) in line
    assert "\n" not in line
    assert ". fix: " in line


@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.name)
def test_odd_but_sound_is_read_right(tmp_path: Path, odd: niftis.Odd) -> None:
    path = tmp_path / odd.name
    path.write_bytes(odd.raw)
    image = read_image(path)
    assert image.data.dtype == odd.data.dtype
    np.testing.assert_array_equal(image.data, odd.data)
    np.testing.assert_allclose(image.geometry.affine, odd.affine, atol=2e-6)
    assert image.geometry.shape == odd.data.shape[1:]
    assert odd.note in " ".join(image.header.notes)
    assert bool(odd.note) == bool(image.header.notes)
    geometry = read_geometry(path)
    assert geometry.shape == image.geometry.shape
    np.testing.assert_array_equal(geometry.affine, image.geometry.affine)


@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.name)
def test_agrees_with_nibabel(tmp_path: Path, odd: niftis.Odd) -> None:
    path = tmp_path / odd.name.lower()
    path.write_bytes(odd.raw)
    theirs = nib.load(path)
    image = read_image(path)
    scale = (
        {"metre": 1000.0, "meter": 1000.0, "micron": 1e-3}.get(theirs.header.get_xyzt_units()[0], 1.0)
        if (odd.name != "unknown unit.nii")
        else 1.0
    )
    np.testing.assert_allclose(image.geometry.affine, np.diag([scale, scale, scale, 1]) @ theirs.affine, atol=2e-6)
    if theirs.header.get_data_dtype().names is None:
        voxels = np.asanyarray(theirs.dataobj).reshape(*image.geometry.shape, -1)
        np.testing.assert_allclose(np.moveaxis(image.data, 0, -1), voxels, rtol=1e-6)


def test_several_faults_come_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    raw = niftis.poke(niftis.poke(niftis.base(), "bitpix", 8), "vox_offset", 3.0)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"vox_offset is 3.*bitpix is 8"):
        read_image(path)


def test_the_first_bad_voxel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(niftis.REJECTED["voxel nan"][1]())
    with pytest.raises(DataError, match=r"1 NaN and 0 infinite values, the first at voxel \(3, 2, 1, 0\)"):
        read_image(path)


def test_space_alone_is_a_geometry_error(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    for kind in ("sform sheared", "sform mirrored", "pixdim nan", "metres that are mm"):
        path.write_bytes(niftis.REJECTED[kind][1]())
        with pytest.raises(GeometryError):
            read_image(path)


def test_folder_and_absent_file(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(DataError):
        read_image(tmp_path / "folder.nii.gz")
    with pytest.raises(DataError, match="file not found"):
        read_image(tmp_path / "absent.nii.gz")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(niftis.base())
    path.chmod(0)
    with pytest.raises(DataError, match="cannot read"):
        read_image(path)


def test_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_VOXEL_BYTES", 100)
    path = tmp_path / "a.nii"
    path.write_bytes(niftis.base())
    with pytest.raises(DataError, match="image too large"):
        read_image(path)


_MEMORY_PROBE = """
import resource, sys
from pathlib import Path
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.nifti import read_nifti
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        read_nifti(Path(name))
    except DataError:
        continue
    sys.exit(f"{name} was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_false_sizes_ask_for_no_memory(tmp_path: Path) -> None:
    """Headers that declare terabytes, a gigabyte that is not there, and a bomb behind small voxels."""
    mebibyte = 1 << 20
    gibibyte_dims = niftis.poke(niftis.base(np.uint8), "dim", 3, 1024, 1024, 1024)
    files = {
        "huge.nii": niftis.REJECTED["huge"][1](),
        "huge.nii.gz": niftis.REJECTED["huge gz"][1](),
        "huge7.nii.gz": niftis.REJECTED["huge 7D gz"][1](),
        "plausible.nii.gz": niftis.zipped(gibibyte_dims + np.random.default_rng(0).bytes(2 * mebibyte)),
        "bomb.nii.gz": niftis.zipped(niftis.base() + bytes(100 * mebibyte)),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROBE, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert int(done.stdout) < 60 * 1024, "KiB"


@pytest.mark.realdata
def test_real_scans_read_as_nibabel_reads_them(real_data: Path) -> None:
    paths = [
        *sorted(real_data.glob("isles2022/**/*.nii.gz")),
        *sorted(real_data.glob("totalsegmentator/*.nii.gz")),
        *sorted(real_data.glob("Task04_Hippocampus/*Tr/*.nii.gz"))[::8],
    ]
    assert len(paths) > 30
    for path in paths:
        image, theirs = read_image(path), nib.load(path)
        np.testing.assert_array_equal(image.data[0], np.asanyarray(theirs.dataobj))
        np.testing.assert_allclose(image.geometry.affine, theirs.affine, atol=1e-5)
