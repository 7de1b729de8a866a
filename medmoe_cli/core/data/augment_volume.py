"""Rotation and scaling of a volume by one affine map.

batchgenerators lays out every voxel's coordinates and rotates them: at 64 x 64 x 64 that takes 140 ms of one core, and
a step of a small network not much more. The same draws as a matrix take 18 ms.
"""

from __future__ import annotations

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from medmoe_cli.core.config.sections import AugmentConfig


class VolumeAffine(AbstractTransform):  # type: ignore[misc]  # batchgenerators has no types
    """Turns about all three axes and zooms, about the centre: linear for the image, nearest for the labels.

    Probabilities, angles and factors are drawn as batchgenerators' spatial transform draws them; what comes from
    outside is 0.

    Args:
        config: probabilities and ranges of rotation and scale.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(self, **arrays: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """'data' and 'seg' (1, C, D, H, W), moved together."""
        matrix = self._draw()
        if matrix is None:
            return arrays
        centre = (np.array(arrays["data"].shape[2:]) - 1) / 2
        offset = centre - matrix @ centre
        image, codes = np.empty_like(arrays["data"]), np.empty_like(arrays["seg"])
        for channel, out in zip(arrays["data"][0], image[0], strict=True):
            affine_transform(channel, matrix, offset, output=out, order=1)
        for channel, out in zip(arrays["seg"][0], codes[0], strict=True):
            affine_transform(channel, matrix, offset, output=out, order=0)
        return {**arrays, "data": image, "seg": codes}

    def _draw(self) -> NDArray[np.float64] | None:
        """From a voxel z, y, x of the result to where it comes from; None where nothing moves."""
        config = self.config
        matrix: NDArray[np.float64] | None = None
        if np.random.uniform() < config.rotation_probability:  # noqa: NPY002 - seeded for this sample
            angles = np.random.uniform(-config.rotation_degrees, config.rotation_degrees, 3)  # noqa: NPY002
            matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        if np.random.uniform() < config.scale_probability:  # noqa: NPY002
            low, high = config.scale
            shrinks = low < 1 and np.random.uniform() < 0.5  # noqa: NPY002
            factor = np.random.uniform(*((low, 1.0) if shrinks else (max(low, 1.0), high)))  # noqa: NPY002
            matrix = factor * (np.eye(3) if matrix is None else matrix)
        return matrix
