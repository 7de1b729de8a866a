"""Augmentation by batchgenerators, drawn from a sample's own seed and nothing else.

batchgenerators draws from the process-wide generators of numpy and Python. They are seeded for one sample and put
back afterwards, so that neither the number of workers nor what else draws numbers changes a sample.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
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
from medmoe_cli.core.imaging.sample import Sample

# nnU-Net's ranges for what AugmentConfig leaves open.
_ELASTIC_ALPHA = (0.0, 200.0)
_ELASTIC_SIGMA = (9.0, 13.0)
_BLUR_SIGMA = (0.5, 1.0)

_DIRECTIONS = {"vertical": 0, "horizontal": 1}
_GLOBAL_GENERATORS = threading.Lock()


class Augment:
    """The transforms of an `AugmentConfig`, for 2D samples.

    Args:
        config: probabilities and ranges.
        mirror_axes: the plan's: 'horizontal', 'vertical'.
        unit_range: clip intensities to [0, 1] afterwards; False where the plan leaves a channel's values as they are.
    """

    def __init__(self, config: AugmentConfig, *, mirror_axes: tuple[str, ...], unit_range: bool = True) -> None:
        self.config, self.mirror_axes, self.unit_range = config, tuple(mirror_axes), unit_range

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample; the label takes no new values, and what comes from outside is not valid."""
        label = np.zeros(sample.valid.shape, np.int32) if sample.label is None else sample.label
        with _seeded(seed):
            out = self._transforms(
                data=sample.image[None].astype(np.float32),
                seg=np.stack([label, sample.valid]).astype(np.float32)[None],
            )
        image, (label_out, valid_out) = out["data"][0], out["seg"][0]
        valid = valid_out > 0.5
        if self.unit_range:
            np.clip(image, 0, 1, out=image)
        image *= valid
        return replace(
            sample,
            image=np.ascontiguousarray(image, dtype=np.float32),
            label=None if sample.label is None else np.rint(label_out).astype(sample.label.dtype),
            valid=valid,
        )

    @cached_property
    def _transforms(self) -> Compose:
        config = self.config
        angle = np.deg2rad(config.rotation_degrees)
        transforms: list[AbstractTransform] = [
            SpatialTransform(
                None,
                do_elastic_deform=config.elastic_probability > 0,
                alpha=_ELASTIC_ALPHA,
                sigma=_ELASTIC_SIGMA,
                p_el_per_sample=config.elastic_probability,
                do_rotation=config.rotation_probability > 0,
                angle_x=(-angle, angle),
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
        if config.mirror_probability > 0:
            transforms += [_Mirror(_DIRECTIONS[name], config.mirror_probability) for name in self.mirror_axes]
        transforms += [
            GaussianNoiseTransform(config.noise_variance, p_per_sample=config.noise_probability),
            GaussianBlurTransform(_BLUR_SIGMA, p_per_sample=config.blur_probability),
            BrightnessMultiplicativeTransform(
                (max(0.0, 1 - config.brightness), 1 + config.brightness),
                per_channel=False,
                p_per_sample=config.brightness_probability,
            ),
            ContrastAugmentationTransform(config.contrast, p_per_sample=config.contrast_probability),
            GammaTransform(config.gamma, p_per_sample=config.gamma_probability),
        ]
        return Compose(transforms)


class _Mirror(AbstractTransform):  # type: ignore[misc]  # batchgenerators has no types
    """Mirror one axis; batchgenerators' own tosses a second coin per axis, which halves the probability given."""

    def __init__(self, axis: int, probability: float) -> None:
        self.axis, self.probability = axis, probability

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if np.random.uniform() < self.probability:  # noqa: NPY002
            return {name: np.flip(array, self.axis + 2).copy() for name, array in arrays.items()}
        return arrays


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's process-wide generators, and put their states back at the end."""
    fresh = np.random.RandomState(derive_seed(seed, "augment") % (1 << 32))
    with _GLOBAL_GENERATORS:
        kept, kept_python = np.random.get_state(), random.getstate()  # noqa: NPY002 - batchgenerators'
        try:
            np.random.set_state(fresh.get_state())  # noqa: NPY002
            random.seed(seed)
            yield
        finally:
            np.random.set_state(kept)  # noqa: NPY002
            random.setstate(kept_python)
