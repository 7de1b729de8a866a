"""The slice of a window that a report of a 3D run shows: the structures' own, without what lies beyond the volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.workflows.reports.plane import fullest_plane, plane_maps
from tests.tools.plans import image_of
from tests.tools.sam_med3d import CONV, small_model, volume_plan
from tests.tools.volume_oracle import oracle_volume_plan

SHAPE = (60, 20, 50)  # the second axis is shorter than a window
GRID = Geometry(shape=SHAPE, affine=np.diag([-1.5, -1.5, 1.5, 1.0]))


def scan_with_a_block(slice_axis: int) -> tuple[VolumeScan, np.ndarray]:
    """A block, fullest in one plane of each axis: x 40, y 9, z 30."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[36:46, 6:14, 26:36] = 1
    labels[40, 4:16, 24:38] = labels[34:48, 9, 24:38] = labels[34:48, 4:16, 30] = 1
    scan = prepare_scan(image_of(labels[None].astype(np.float32), GRID), oracle_volume_plan(slice_axis=slice_axis))
    assert isinstance(scan, VolumeScan)
    return scan, labels


@pytest.mark.parametrize(("slice_axis", "fullest"), [(0, 40), (1, 9), (2, 30)])
def test_the_fullest_slice_of_the_window_around_it(slice_axis: int, fullest: int) -> None:
    scan, labels = scan_with_a_block(slice_axis)
    plane = fullest_plane(scan, scan.label_slices(labels))
    assert plane.axis == 2 - slice_axis
    assert plane.place + plane.window.start[plane.axis] == fullest
    picture = plane.picture
    expected = labels.take(fullest, axis=slice_axis).T  # (across, down) of the slice
    if slice_axis != 2:
        expected = expected[::-1]  # the head on top
    rows, cols = np.nonzero(expected)
    shown_rows, shown_cols = np.nonzero(picture)
    assert len(rows) == len(shown_rows)
    np.testing.assert_array_equal(rows - rows.min(), shown_rows - shown_rows.min())
    np.testing.assert_array_equal(cols - cols.min(), shown_cols - shown_cols.min())
    # 20 of the window's 32 voxels are there along y.
    assert picture.shape == {0: (32, 20), 1: (32, 32), 2: (20, 32)}[slice_axis]


def test_a_label_map_without_structures_shows_the_middle() -> None:
    scan, labels = scan_with_a_block(2)
    plane = fullest_plane(scan, scan.label_slices(np.zeros_like(labels)))
    assert plane.window.start == (0, -6, 14)


@pytest.mark.parametrize(
    ("keys", "names"),
    [({}, ["image embedding"]), (CONV, ["first convolutions", "second convolutions", "image embedding"])],
)
def test_maps_cover_what_the_picture_covers(keys: dict[str, object], names: list[str]) -> None:
    scan, labels = scan_with_a_block(1)
    plane = fullest_plane(scan, scan.label_slices(labels))
    maps = plane_maps(small_model(plan=volume_plan(), **keys).eval(), plane)
    assert list(maps) == names
    for name, values in maps.items():
        strides = {"first convolutions": 1, "second convolutions": 2, "image embedding": 8}
        assert values.shape[1:] == (32 // strides[name], 32 // strides[name])
        assert np.isfinite(values).all()


def test_maps_of_public_axes_are_turned_back() -> None:
    """The network works on (right, front, head); its maps are shown as (z, y, x), x to the left."""
    model = small_model(plan=volume_plan(), axes="published").eval()
    images = torch.from_numpy(np.random.default_rng(0).random((1, 1, 32, 32, 32), np.float32))
    with torch.no_grad():
        shown = model.pictures(images)["image embedding"][0].numpy()
        worked_on = model.encode(images).maps["embedding"][0].numpy()
    np.testing.assert_array_equal(shown, worked_on[:, ::-1, ::-1].transpose(0, 3, 2, 1))
