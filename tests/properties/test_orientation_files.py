"""A mask written for a scan of any orientation lies on it: through the file, canonical order and back."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.imaging.orientation import to_canonical
from medmoe_cli.core.imaging.read import read_image, read_labels
from medmoe_cli.core.imaging.write import write_labels
from tests.tools import niftis

SHAPE = (5, 6, 7)
TILT = niftis.affine(degrees=20, spacing=(1.0, 1.0, 1.0))[:3, :3]


@pytest.mark.parametrize("oblique", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.9, 5.0)], ids=["iso", "aniso"])
@pytest.mark.parametrize("flat", [False, True], ids=["3D", "2D"])
def test_48_orientations(tmp_path: Path, oblique: bool, spacing: tuple[float, float, float], flat: bool) -> None:
    shape = (*SHAPE[:2], 1) if flat else SHAPE
    voxels = niftis.voxels(shape=shape)
    landmark = (4, 1, 0) if flat else (4, 1, 5)
    voxels[landmark] = 999
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = (TILT if oblique else np.eye(3)) @ (np.eye(3)[:, list(axes)] * signs) @ np.diag(spacing)
        affine[:3, 3] = (-71.3, 42.7, 1030.1)
        path = tmp_path / "scan.nii"
        path.write_bytes(niftis.nifti(voxels, affine))
        image = read_image(path)
        canonical, geometry, turn = to_canonical(image.data[0], image.geometry)
        where = np.argwhere(canonical == 999)
        np.testing.assert_allclose(
            geometry.to_mm(where.astype(float))[0], affine @ [*landmark, 1.0] @ np.eye(4)[:, :3], atol=1e-3
        )
        out = write_labels(tmp_path / "mask.nii", turn.invert((canonical == 999).astype(np.uint8)), image)
        labels, before, after = read_labels(out), nib.load(path), nib.load(out)
        np.testing.assert_array_equal(np.argwhere(labels.data), [landmark])
        np.testing.assert_array_equal(after.affine, before.affine)
        for field in ("qform_code", "sform_code", "xyzt_units", "pixdim", "dim"):
            np.testing.assert_array_equal(after.header[field], before.header[field])
