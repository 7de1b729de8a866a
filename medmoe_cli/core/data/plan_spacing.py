"""Target spacing of 3D methods: nnU-Net's rule, in canonical axes."""

from __future__ import annotations

import numpy as np

from medmoe_cli.core.config.fingerprint import Fingerprint

_ANISOTROPY = 3.0
_FINER_PERCENTILE = 10
_EPSILON_MM = 1e-5

Spacing = tuple[float, float, float]


def target_spacing(fingerprint: Fingerprint, override: Spacing | None) -> tuple[Spacing, str]:
    """The spacing to resample to, x, y, z in mm, and why.

    The median of each axis; for data that are more than three times coarser (and three times shorter in voxels) along
    one axis, that axis takes its 10th percentile instead, but never finer than the others, so that the many thick
    slices do not drag the thin ones down.
    """
    if override is not None:
        return override, f"{_by(override)} mm: set by the preset or --set"
    spacings = np.array([case.spacing_mm for case in fingerprint.cases.values()], float)
    sizes = np.median([case.shape for case in fingerprint.cases.values()], axis=0)
    target = np.median(spacings, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > _ANISOTROPY * max(target[axis] for axis in others)
    short = sizes[worst] * _ANISOTROPY < min(sizes[axis] for axis in others)
    why = "the median spacing"
    if coarse and short:
        finer = float(np.percentile(spacings[:, worst], _FINER_PERCENTILE))
        target[worst] = max(finer, max(target[axis] for axis in others) + _EPSILON_MM)
        why += f", along {'xyz'[worst]} the 10th percentile because it is more than 3 times coarser"
    chosen = (float(target[0]), float(target[1]), float(target[2]))
    return chosen, f"{_by(chosen)} mm: {why}"


def _by(values: Spacing) -> str:
    return "x".join(f"{value:.4g}" for value in values)
