"""The files of a DICOM volume's slices, in the order of the volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from medmoe_cli.core.imaging.dicom import read_dicom, slice_names
from tests.tools.dicoms import stack, voxels


def test_names_follow_positions(tmp_path: Path) -> None:
    folder = stack(tmp_path / "series", voxels(7), 2.5 * np.arange(7))
    names = slice_names(folder)
    volume = read_dicom(folder).data[0]
    assert names != tuple(sorted(names))  # saved in an order that says nothing
    for index, name in enumerate(names):
        assert np.array_equal(volume[..., index], pydicom.dcmread(folder / name).pixel_array.T)
