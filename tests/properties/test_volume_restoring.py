"""Volumes slab by slab and part by part are volumes at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.imaging import slabs
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.resample import resize_image
from tests.tools.plans import image_of
from tests.tools.volume_oracle import oracle_volume_plan

SHAPES = st.tuples(*[st.integers(2, 14)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.6, 1.5, 4.0])] * 3)


def scan_of(shape: tuple[int, int, int], spacing: tuple[float, float, float], order: int, axis: int) -> VolumeScan:
    """A scan of noise with axes in one of six orders, the second reversed."""
    affine = np.eye(4)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    affine[:3, :3] = np.eye(3)[:, list(orders[order])] * spacing * (1, -1, 1)
    data = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    scan = prepare_scan(image_of(data, Geometry(shape=shape, affine=affine)), oracle_volume_plan(slice_axis=axis))
    assert isinstance(scan, VolumeScan)
    return scan


@given(
    data=st.data(), shape=SHAPES, spacing=SPACINGS, order=st.integers(0, 5), axis=st.integers(0, 2), seed=st.integers(0)
)
@settings(max_examples=40, deadline=None)
def test_a_part_restored_slab_by_slab_is_the_whole_restored_at_once(
    data: st.DataObject,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    order: int,
    axis: int,
    seed: int,
) -> None:
    scan = scan_of(shape, spacing, order, axis)
    start, stop = [], []
    for length in scan.shape_DHW:
        first = data.draw(st.integers(0, length - 1))
        start.append(first)
        stop.append(data.draw(st.integers(first + 1, length)))
    part = np.random.default_rng(seed % 2**32).random([high - low for low, high in zip(start, stop, strict=True)])
    whole = np.zeros(scan.shape_DHW, np.float32)
    whole[tuple(map(slice, start, stop))] = part
    expected = scan.label_slices(scan.volume.restore(whole[None])[0])
    found = np.zeros(scan.shape_SHW, np.float32)
    cut = data.draw(st.integers(1, scan.num_slices))
    for first in range(0, scan.num_slices, cut):
        slab = slice(first, min(first + cut, scan.num_slices))
        native = scan.restore(part.astype(np.float32), (start[0], start[1], start[2]), slab)
        if native is not None:
            assert slab.start <= native.place[0].start < native.place[0].stop <= slab.stop
            found[native.place] = native.probability
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(shape=SHAPES, spacing=SPACINGS, order=st.integers(0, 5), axis=st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_places_go_to_the_network_and_its_labels_come_from_there(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], order: int, axis: int
) -> None:
    """A voxel's centre is where the volume shows it: along every axis its own share of the way."""
    scan = scan_of(shape, spacing, order, axis)
    voxels = np.argwhere(np.ones(shape)).astype(float)
    places = scan.to_volume(voxels)
    assert (places > 0).all()
    assert (places < np.array(scan.volume.shape)).all()
    on_slices = np.floor(scan.on_slices(places)).astype(int)
    numbers = scan.label_slices(np.arange(len(voxels)).reshape(shape))
    np.testing.assert_array_equal(numbers[on_slices[:, 0], on_slices[:, 2], on_slices[:, 1]], np.arange(len(voxels)))


@pytest.mark.parametrize("kernel", ["cubic", "linear"])
@pytest.mark.parametrize("voxels", [1, 50, 700, 10_000])
def test_resizing_in_slabs_is_resizing_at_once_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, kernel: str, voxels: int
) -> None:
    grid = Geometry(shape=(13, 9, 17), affine=np.diag([-1.0, -2.5, 0.8, 1.0]))
    values = np.random.default_rng(1).integers(-1000, 2000, grid.shape).astype(np.int16)
    shape = (9, 15, 9)
    once = slabs.resize_in_slabs(values, grid, shape, convert=lambda part: part.astype(np.float32), kernel=kernel)
    monkeypatch.setattr(slabs, "SLAB_VOXELS", voxels)
    parts = slabs.resize_in_slabs(values, grid, shape, convert=lambda part: part.astype(np.float32), kernel=kernel)
    np.testing.assert_array_equal(parts, once)
    np.testing.assert_allclose(
        once, resize_image(values.astype(np.float32)[None], grid, shape, kernel=kernel)[0], atol=1e-3
    )
