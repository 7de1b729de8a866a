"""Prompt-free prediction of a binary 2D dataset against a constant: the mean training mask.

    python benchmarks/prompt_free.py --data cxr [--preset segmote-tiny] [--folds 0 1 2] [--set train.steps=400]

Trains each fold, takes the prompt-free Dice of its validation (`validation/prompts.json`), and compares it with the
training masks averaged on the unit square, cut at one half and laid over every validation image.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from medmoe_cli.console import Console
from medmoe_cli.core.base.workspace import find_workspace
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.workflows.train import TrainOptions, run_train

GRID = 256


def main() -> None:
    """Run and print one line per fold and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--preset", default="segmote-tiny")
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--workspace", type=Path)
    arguments = parser.parse_args()
    workspace = find_workspace(arguments.workspace)
    dataset = open_dataset(workspace.dataset(arguments.data))
    labels = {case.id: read_labels(case.label).data[:, :, 0] > 0 for case in dataset.training if case.label}
    found, constant = [], []
    for fold in arguments.folds:
        wall, cpu = time.perf_counter(), time.process_time()
        options = TrainOptions(
            data=arguments.data,
            method="segmote",
            preset=arguments.preset,
            fold=fold,
            assignments=tuple(arguments.assignments),
        )
        result = run_train(workspace=workspace, options=options, reporter=Console(verbosity=-1))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert result.folder is not None
        ways = {
            row["way"]: row for row in json.loads((result.folder / "validation" / "prompts.json").read_text())["ways"]
        }
        validation = {path.name.split(".")[0] for path in (result.folder / "validation" / "masks").iterdir()}
        mean = np.mean([_resize(labels[case], (GRID, GRID)) for case in labels if case not in validation], axis=0)
        scores = [_dice(_resize(mean, labels[case].shape) > 0.5, labels[case]) for case in sorted(validation)]
        found.append(ways["none"]["mean_dice"])
        constant.append(float(np.mean(scores)))
        print(
            f"fold {fold}: prompt-free {found[-1]:.4f}, mean training mask {constant[-1]:.4f}, "
            f"box {ways['box']['mean_dice']:.4f}; {len(validation)} images, {wall:.0f} s wall, {cpu:.0f} s CPU"
        )
    print(f"mean: prompt-free {np.mean(found):.4f}, mean training mask {np.mean(constant):.4f}")


def _resize(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    factors = [new / old for new, old in zip(shape, mask.shape, strict=True)]
    return ndimage.zoom(mask.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


if __name__ == "__main__":
    main()
