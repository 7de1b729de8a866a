"""PreparedVolume: the order of clipping, resampling and standardising, and that training reads what is prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.data.fingerprint import measure
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.load import load_image
from medmoe_cli.core.data.preprocess import make_jobs, preprocess
from medmoe_cli.core.data.volume import prepare_volume
from medmoe_cli.core.data.volume_source import VolumeSource
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.resample import resize_image
from tests.tools.datasets import make_dataset
from tests.tools.plans import image_of, slice_plan

GRID = Geometry(shape=(14, 12, 10), affine=np.diag([-1.5, -1.0, 2.0, 1.0]))


def plan(*channels: ChannelPlan, spacing: float = 1.5, **options: object) -> Plan:
    return slice_plan(input_size=16, spacing_mm=(spacing,) * 3, channels=channels, **options)  # type: ignore[arg-type]


def scan(channels: int = 1, *, scale: float = 100) -> np.ndarray:
    return np.random.default_rng(0).gamma(2, scale, (channels, *GRID.shape)).astype(np.float32)


def test_mean_and_deviation_are_those_of_the_resampled_voxels_above_zero() -> None:
    data = scan()
    data[:, :5] = 0
    volume = prepare_volume(image_of(data, GRID), plan(ChannelPlan(name="T1", normalization="zscore")))
    assert volume.image.shape == (1, 13, 8, 14)
    resampled = resize_image(data, GRID, volume.shape)[0].transpose(2, 1, 0)
    inside = resampled > 0
    assert 0 < inside.sum() < inside.size
    assert abs(volume.image[0][inside].mean()) < 1e-3
    assert abs(volume.image[0][inside].std() - 1) < 1e-3
    expected = (resampled - resampled[inside].mean()) / resampled[inside].std()
    np.testing.assert_allclose(volume.image[0], expected, atol=4e-3, rtol=1e-3)  # half precision


def test_ct_is_clipped_before_a_cubic_kernel_can_spread_metal() -> None:
    data = np.full((1, *GRID.shape), 40.0, np.float32) + np.random.default_rng(1).normal(0, 5, GRID.shape)
    metal = data.copy()
    metal[0, 7, 6, 5] = 30_000
    limited = metal.copy()
    limited[0, 7, 6, 5] = 1000
    ct = plan(ChannelPlan(name="CT", normalization="zscore", low=-1000.0, high=1000.0))
    one = prepare_volume(image_of(metal.astype(np.float32), GRID), ct).image
    other = prepare_volume(image_of(limited.astype(np.float32), GRID), ct).image
    assert (one == other).all()


def test_channels_do_not_touch_each_other() -> None:
    both = scan(2)
    both[1] *= 1000
    channels = [ChannelPlan(name=name, normalization="zscore") for name in ("T1", "T2")]
    together = prepare_volume(image_of(both, GRID), plan(*channels)).image
    for index in range(2):
        alone = prepare_volume(image_of(both[index : index + 1], GRID), plan(channels[index])).image
        assert (together[index] == alone[0]).all()


@pytest.mark.parametrize("value", [0.0, 700.0, -3.0])
def test_a_constant_image_becomes_zeros(value: float) -> None:
    data = np.full((1, *GRID.shape), value, np.float32)
    volume = prepare_volume(image_of(data, GRID), plan(ChannelPlan(name="T1", normalization="zscore")))
    assert (volume.image == 0).all()


def test_training_on_windows_sees_what_is_prepared(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2, channels=1, shape=(20, 18, 12))
    dataset = open_dataset(root)
    volumes = plan(
        *[ChannelPlan(name=name, normalization="zscore") for name in dataset.channels], labels=dataset.labels
    )
    measured = measure(dataset, workers=1, reporter=Silent())
    jobs = make_jobs(dataset, volumes, measured.inputs, tmp_path / "store")
    done = preprocess(jobs, fingerprint=measured.fingerprint, workers=1, reporter=Silent())
    source = VolumeSource(
        store=done.store, records=done.records, cases=[job.case.id for job in jobs], plan=volumes, min_voxels=1
    )
    assert len(source) >= 2
    shown = {job.case.id: prepare_volume(load_image(job.case.images), volumes).image for job in jobs}
    for index in range(len(source)):
        sample = source.load(index, seed=None)
        whole = shown[sample.case_id]
        cut = sample.image[:, sample.valid.any((1, 2))][:, :, sample.valid.any((0, 2))][..., sample.valid.any((0, 1))]
        assert cut.size == sample.valid.sum()
        views = np.lib.stride_tricks.sliding_window_view(whole, cut.shape)
        assert (views == cut).all(axis=(-4, -3, -2, -1)).any()
