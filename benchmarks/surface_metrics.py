"""CPU seconds to measure a whole label map: medmoe, surface-distance and MONAI, in one process, in turns.

Each tool computes Dice, HD95, HD, NSD at 2 mm and ASSD of every class, as its documentation shows. Prints the seconds
of each repetition, the medians, and the largest difference from surface-distance.

    python -m benchmarks.surface_metrics [--shape 512 512 100] [--organs 13] [--repeats 3] [--labels MAP.nii.gz]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import surface_distance
import torch
from monai import metrics as monai_metrics
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.conventions import convention
from medmoe_cli.core.metrics.scores import LabelPair

TOLERANCE_MM = 2.0
Scores = dict[tuple[int, str], float]
Spacing = tuple[float, ...]


def medmoe(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], spacing: Spacing, values: list[int]) -> Scores:
    classes = tuple(ScoredClass(name=str(value), values=(value,)) for value in values)
    pair = LabelPair(case_id="case", reference=reference, prediction=prediction, spacing_mm=(*spacing,))
    (unit,) = convention("medmoe").score(pair, classes, Tolerances(default_mm=TOLERANCE_MM))
    names = ("Dice", "HD95", "HD", "NSD", "ASSD")
    return {(int(item.key), name): item.values[name] for item in unit.classes for name in names}


def deepmind(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], spacing: Spacing, values: list[int]
) -> Scores:
    found: Scores = {}
    for value in values:
        left, right = reference == value, prediction == value
        distances = surface_distance.compute_surface_distances(left, right, spacing)
        averages = surface_distance.compute_average_surface_distance(distances)
        weights = distances["surfel_areas_gt"].sum(), distances["surfel_areas_pred"].sum()
        found[value, "Dice"] = surface_distance.compute_dice_coefficient(left, right)
        found[value, "HD95"] = surface_distance.compute_robust_hausdorff(distances, 95)
        found[value, "HD"] = surface_distance.compute_robust_hausdorff(distances, 100)
        found[value, "NSD"] = surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)
        found[value, "ASSD"] = float(np.average(averages, weights=weights))
    return found


def monai(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], spacing: Spacing, values: list[int]) -> Scores:
    found: Scores = {}
    common = {"include_background": True, "spacing": list(spacing)}
    for value in values:
        left, right = (torch.from_numpy(labels == value)[None, None].float() for labels in (reference, prediction))
        found[value, "Dice"] = monai_metrics.compute_dice(right, left).item()
        found[value, "HD95"] = monai_metrics.compute_hausdorff_distance(right, left, percentile=95, **common).item()
        found[value, "HD"] = monai_metrics.compute_hausdorff_distance(right, left, **common).item()
        nsd = monai_metrics.compute_surface_dice(right, left, [TOLERANCE_MM], use_subvoxels=True, **common)
        found[value, "NSD"] = nsd.item()
        symmetric = monai_metrics.compute_average_surface_distance(right, left, symmetric=True, **common)
        found[value, "ASSD"] = symmetric.item()
    return found


def phantom(shape: tuple[int, ...], organs: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lumpy ellipsoids of abdominal sizes; the prediction's borders wobble by a few voxels."""
    random = np.random.default_rng(seed)
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for value in range(1, organs + 1):
        radii = np.array([random.uniform(0.04, 0.14) * shape[0], random.uniform(0.04, 0.14) * shape[1], 0])
        radii[2] = random.uniform(0.15, 0.35) * shape[2]
        centre = [random.uniform(radius + 6, side - radius - 6) for radius, side in zip(radii, shape, strict=True)]
        box = tuple(
            slice(max(0, int(c - 1.4 * r)), min(side, int(c + 1.4 * r) + 1))
            for c, r, side in zip(centre, radii, shape, strict=True)
        )
        grids = np.ogrid[box]
        distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre, radii, strict=True))
        lumps, wobble = (_smooth(random, distance.shape) for _ in range(2))
        reference[box][distance + 0.15 * lumps < 1] = value
        prediction[box][distance + 0.15 * lumps + 0.06 * wobble < 1] = value
    return reference, prediction


def _smooth(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    coarse = gaussian_filter(random.normal(size=(10, 10, 8)), 0.8)
    fine = zoom(coarse / coarse.std(), [side / have for side, have in zip(shape, coarse.shape, strict=True)], order=1)
    return fine[tuple(slice(0, side) for side in shape)]


def _measure(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], spacing: tuple[float, ...], repeats: int
) -> None:
    tools: dict[str, Callable[..., Scores]] = {"medmoe": medmoe, "surface-distance": deepmind, "MONAI": monai}
    values = [int(value) for value in np.unique(reference) if value]
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    scores: dict[str, Scores] = {}
    for _ in range(repeats):
        for name, tool in tools.items():
            start = time.process_time()
            scores[name] = tool(reference, prediction, spacing, values)
            seconds[name].append(time.process_time() - start)
    print(f"{reference.shape}, spacing {spacing} mm, {len(values)} classes")
    base = statistics.median(seconds["medmoe"])
    for name, times in seconds.items():
        each = " ".join(f"{value:.2f}" for value in times)
        median = statistics.median(times)
        print(f"  {name:17s} median {median:7.2f} s  ({median / base:5.1f} x medmoe)  runs: {each}")
    ours, theirs = scores["medmoe"], scores["surface-distance"]
    both = [key for key in ours if np.isfinite(ours[key]) and np.isfinite(theirs[key])]
    worst = max(abs(ours[key] - theirs[key]) for key in both)
    print(f"  largest difference from surface-distance over {len(both)} numbers: {worst:.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 100))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.8, 0.8, 3.0))
    parser.add_argument("--organs", type=int, default=13)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--labels", type=Path, help="a real label map; its prediction is itself, moved by one voxel")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # surface-distance 0.1 uses names that numpy has dropped.
    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        if not hasattr(np, name):
            setattr(np, name, value)
    if given.labels is not None:
        labels = read_labels(given.labels)
        moved = np.roll(labels.data, (1, 0, 1), axis=(0, 1, 2))
        _measure(labels.data, moved, labels.geometry.spacing_mm, given.repeats)
        return
    reference, prediction = phantom(tuple(given.shape), given.organs)
    _measure(reference, prediction, tuple(given.spacing), given.repeats)


if __name__ == "__main__":
    main()
