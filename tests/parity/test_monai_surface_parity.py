"""Distances equal MONAI's: its default with border voxels, its subvoxel option with marching-cubes elements."""

from __future__ import annotations

import numpy as np
import pytest

from medmoe_cli.core.metrics.overlap import count_pairs
from medmoe_cli.core.metrics.surface import surface_distances
from tests.tools.masks import SPACINGS, blobs

torch = pytest.importorskip("torch")
metrics = pytest.importorskip("monai.metrics")

# No sum of squares of these spacings gives it: MONAI rounds distances to float32, which decides ties otherwise.
TOLERANCE_MM = 1.45

PAIRS = [(seed, dims) for seed in range(12) for dims in (2, 3)]


@pytest.mark.parametrize(("seed", "dims"), PAIRS)
def test_monai(seed: int, dims: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.integers(8, 18, dims))
    first, second = blobs(seed, shape, share=0.25, difference=0.5)
    spacing_mm = SPACINGS[seed % len(SPACINGS)][-dims:]
    reference, prediction = (torch.from_numpy(mask)[None, None].float() for mask in (first, second))
    common = {"include_background": True, "spacing": list(spacing_mm)}

    voxels = surface_distances(first, second, spacing_mm, elements="voxels")
    hausdorff = metrics.compute_hausdorff_distance(prediction, reference, **common)
    assert voxels.hausdorff_mm == pytest.approx(hausdorff.item(), abs=1e-6, rel=1e-6)
    symmetric = metrics.compute_average_surface_distance(prediction, reference, symmetric=True, **common)
    assert voxels.average_symmetric_mm == pytest.approx(symmetric.item(), abs=1e-6, rel=1e-6)
    robust = metrics.compute_hausdorff_distance(prediction, reference, percentile=95, **common)
    directions = [np.percentile(side, 95) for side in (voxels.reference_mm, voxels.prediction_mm)]
    assert max(directions) == pytest.approx(robust.item(), abs=1e-6, rel=1e-6)
    plain = metrics.compute_surface_dice(prediction, reference, [TOLERANCE_MM], **common)
    assert voxels.surface_dice(TOLERANCE_MM) == pytest.approx(plain.item(), abs=1e-6)

    elements = surface_distances(first, second, spacing_mm)
    fine = metrics.compute_surface_dice(prediction, reference, [TOLERANCE_MM], use_subvoxels=True, **common)
    assert elements.surface_dice(TOLERANCE_MM) == pytest.approx(fine.item(), abs=1e-6)

    dice = metrics.compute_dice(prediction, reference).item()
    assert count_pairs(first.astype(np.uint8), second.astype(np.uint8)).of((1,)).dice == pytest.approx(dice, abs=1e-6)
