"""Augmentation by batchgenerators, drawn from a sample's own seed and nothing else.

batchgenerators draws from the process-wide generators of numpy and Python. They are seeded for one sample and put
back afterwards, so that neither the number of workers nor what else draws numbers changes a sample.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.spatial_transforms import SpatialTransform
from numpy.typing import NDArray

from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.augment_volume import VolumeAffine
from medmoe_cli.core.imaging.sample import Sample

# nnU-Net's ranges for what AugmentConfig leaves open.
_ELASTIC_ALPHA = (0.0, 200.0)
_ELASTIC_SIGMA = (9.0, 13.0)
_BLUR_SIGMA = (0.5, 1.0)

# By the plan's name: the axis of an image (rows, columns), of a volume (z, y, x).
_DIRECTIONS = {"vertical": 0, "horizontal": 1, "z": 0, "y": 1, "x": 2}
_GLOBAL_GENERATORS = threading.Lock()


class Augment:
    """The transforms of an `AugmentConfig`, for slices and volumes.

    Args:
        config: probabilities and ranges.
        mirror_axes: the plan's: 'horizontal', 'vertical', or 'x', 'y', 'z' of a volume.
        mirror_swaps: the plan's: by axis, the label values that change places when it is mirrored.
        unit_range: clip intensities to [0, 1] afterwards; False where the plan gives a channel another range.
        num_slices: neighbouring slices that the image's channels show, first slice first. All are moved alike, and
            brightness, contrast and gamma change them alike; noise is each pixel's own.
        volumes: samples are volumes, which are turned and scaled by one matrix where nothing elastic is wanted.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        mirror_axes: tuple[str, ...],
        mirror_swaps: Mapping[str, Sequence[tuple[int, int]]] | None = None,
        unit_range: bool = True,
        num_slices: int = 1,
        volumes: bool = False,
    ) -> None:
        self.volumes = volumes
        self.config, self.mirror_axes, self.mirror_swaps = config, tuple(mirror_axes), dict(mirror_swaps or {})
        self.unit_range, self.num_slices = unit_range, num_slices

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample; the label takes no new values, and what comes from outside is not valid.

        Classes that change places in a mirrored image do so in what is asked for, too.
        """
        asked = np.array(sample.asked or (), np.float32)
        with _seeded(seed):
            out = self._transforms(
                data=sample.image[None].astype(np.float32), seg=_to_codes(sample)[None, None], asked=2 * asked
            )
        image, codes = out["data"][0], out["seg"][0, 0].astype(np.int32)
        valid = (codes & 1).astype(bool)
        if self.unit_range:
            np.clip(image, 0, 1, out=image)
        image *= valid
        return replace(
            sample,
            image=np.ascontiguousarray(image, dtype=np.float32),
            label=None if sample.label is None else (codes >> 1).astype(sample.label.dtype),
            valid=valid,
            asked=None if sample.asked is None else tuple(int(code) >> 1 for code in out["asked"]),
        )

    @cached_property
    def _transforms(self) -> Compose:
        config = self.config
        angle = np.deg2rad(config.rotation_degrees)
        transforms: list[AbstractTransform] = [
            VolumeAffine(config)
            if self.volumes and config.elastic_probability == 0
            else _Spatial(
                None,
                do_elastic_deform=config.elastic_probability > 0,
                alpha=_ELASTIC_ALPHA,
                sigma=_ELASTIC_SIGMA,
                p_el_per_sample=config.elastic_probability,
                do_rotation=config.rotation_probability > 0,
                angle_x=(-angle, angle),
                angle_y=(-angle, angle),
                angle_z=(-angle, angle),
                p_rot_per_sample=config.rotation_probability,
                do_scale=config.scale_probability > 0,
                scale=config.scale,
                p_scale_per_sample=config.scale_probability,
                order_data=1,
                border_mode_data="constant",
                border_mode_seg="constant",
                order_seg=0,
                random_crop=False,
            )
        ]
        if config.shift_probability > 0:
            transforms.append(_Shift(config.shift, config.shift_probability))
        if config.mirror_probability > 0:
            transforms += [
                _Mirror(_DIRECTIONS[name], config.mirror_probability, self.mirror_swaps.get(name, ()))
                for name in self.mirror_axes
            ]
        transforms += [
            GaussianNoiseTransform(config.noise_variance, p_per_sample=config.noise_probability),
            GaussianBlurTransform(
                _BLUR_SIGMA,
                different_sigma_per_channel=self.num_slices == 1,
                p_per_sample=config.blur_probability,
            ),
            _Stack(self.num_slices),
            BrightnessMultiplicativeTransform(
                (max(0.0, 1 - config.brightness), 1 + config.brightness),
                per_channel=False,
                p_per_sample=config.brightness_probability,
            ),
            ContrastAugmentationTransform(config.contrast, p_per_sample=config.contrast_probability),
            GammaTransform(config.gamma, p_per_sample=config.gamma_probability),
            _Unstack(self.num_slices),
        ]
        return Compose(transforms)


class _Spatial(SpatialTransform):  # type: ignore[misc]  # batchgenerators has no types
    """batchgenerators' transform, left out where it would draw that nothing moves: it lays out its grid before."""

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        before = np.random.get_state()  # noqa: NPY002
        chances = (
            (self.do_elastic_deform, self.p_el_per_sample),
            (self.do_rotation, self.p_rot_per_sample),
            (self.do_scale, self.p_scale_per_sample),
        )
        # The draws that the transform makes until the first that moves something, in its order.
        if not any(wanted and np.random.uniform() < chance for wanted, chance in chances):  # noqa: NPY002
            return arrays
        np.random.set_state(before)  # noqa: NPY002
        moved: dict[str, NDArray[np.float32]] = super().__call__(**arrays)
        return moved


class _Shift(AbstractTransform):  # type: ignore[misc]
    """Move image and labels by whole pixels; what comes from outside is 0.

    batchgenerators shifts as it crops at random, each sample, whether or not anything else is drawn.

    Args:
        most: share of an axis' length.
        probability: per sample.
    """

    def __init__(self, most: float, probability: float) -> None:
        self.most, self.probability = most, probability

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if np.random.uniform() >= self.probability:  # noqa: NPY002
            return arrays
        size = arrays["data"].shape[2:]
        steps = [round(np.random.uniform(-self.most, self.most) * length) for length in size]  # noqa: NPY002
        moved = {name: np.zeros_like(arrays[name]) for name in ("data", "seg")}
        for name, array in moved.items():
            array[_overlap(size, steps)] = arrays[name][_overlap(size, [-step for step in steps])]
        return {**arrays, **moved}


def _overlap(size: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    """Where (1, C, *S) and itself moved by `steps` overlap, in the moved one."""
    inside = [slice(max(step, 0), length + min(step, 0)) for step, length in zip(steps, size, strict=True)]
    return (slice(None), slice(None), *inside)


class _Mirror(AbstractTransform):  # type: ignore[misc]
    """Mirror one axis; batchgenerators' own tosses a second coin per axis, which halves the probability given.

    Args:
        axis: of the image or volume, channels not counted.
        probability: per sample.
        swaps: pairs of label values that change places with it.
    """

    def __init__(self, axis: int, probability: float, swaps: Sequence[tuple[int, int]] = ()) -> None:
        self.axis, self.probability = axis, probability
        # By code (see `_to_codes`), up to the largest that changes.
        self.becomes = np.arange(2 * max((max(pair) for pair in swaps), default=-1) + 2, dtype=np.float32)
        for one, other in swaps:
            for inside in (0, 1):
                self.becomes[2 * one + inside] = 2 * other + inside
                self.becomes[2 * other + inside] = 2 * one + inside

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if np.random.uniform() >= self.probability:  # noqa: NPY002
            return arrays
        mirrored = {name: np.flip(arrays[name], self.axis + 2).copy() for name in ("data", "seg")}
        return {
            **arrays,
            "data": mirrored["data"],
            "seg": self._renamed(mirrored["seg"]),
            "asked": self._renamed(arrays["asked"]),
        }

    def _renamed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes of labels as they are in the mirrored image."""
        if not self.becomes.size:
            return values
        codes = values.astype(np.intp)
        swapped = self.becomes[np.minimum(codes, self.becomes.size - 1)]
        return np.where(codes < self.becomes.size, swapped, values)


class _Stack(AbstractTransform):  # type: ignore[misc]
    """(1, slices * C, H, W) to (1, C, slices, H, W): one channel's slices become a small volume of their own."""

    def __init__(self, num_slices: int) -> None:
        self.num_slices = num_slices

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if self.num_slices == 1:
            return arrays
        _, channels, *size = arrays["data"].shape
        by_slice = arrays["data"].reshape(1, self.num_slices, channels // self.num_slices, *size)
        return {**arrays, "data": np.ascontiguousarray(by_slice.swapaxes(1, 2))}


class _Unstack(_Stack):
    """The way back from `_Stack`."""

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if self.num_slices == 1:
            return arrays
        by_slice = arrays["data"].swapaxes(1, 2)
        return {**arrays, "data": by_slice.reshape(1, -1, *by_slice.shape[3:])}


def _to_codes(sample: Sample) -> NDArray[np.float32]:
    """Label and validity in one map, moved at once: twice the label, plus one inside; exact for any uint16 label."""
    if sample.label is None:
        return sample.valid.astype(np.float32)
    return sample.label.astype(np.float32) * 2 + sample.valid


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's process-wide generators, and put their states back at the end."""
    with _GLOBAL_GENERATORS:
        kept, kept_python = np.random.get_state(), random.getstate()  # noqa: NPY002 - batchgenerators'
        try:
            np.random.seed(derive_seed(seed, "augment") % (1 << 32))  # noqa: NPY002, TID251 - put back below
            random.seed(seed)
            yield
        finally:
            np.random.set_state(kept)  # noqa: NPY002
            random.setstate(kept_python)
