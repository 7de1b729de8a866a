"""nnU-Net 2d within a budget of CPU-seconds; run by hippocampus_cpu.py with the Python that has nnunetv2.

    PYTHON benchmarks/nnunet_budget.py prepare|train|predict --work DIR [--dataset DIR] [--seconds 515] [--augmenters 0]

Plans, network, loss, optimiser, sampling and augmentation are nnU-Net's own. What differs from `nnUNetv2_train`:

- the polynomial learning rate follows the share of the budget that is spent instead of the share of 1000 epochs, so it
  reaches its end when the budget does, whatever the machine;
- the online validation, which steers nothing, is left out: the whole budget goes into updates;
- importing, planning, preprocessing, building the network and starting the loaders are not counted.

`train` counts user and system time of this process and of its augmentation processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

NUMBER = 4
NAME = f"Dataset{NUMBER:03d}_Hippocampus"
CONFIGURATION, PLANS = "2d", "nnUNetPlans"
_EXPONENT = 0.9  # of nnU-Net's PolyLRScheduler


def learning_rate(initial: float, spent_s: float, budget_s: float) -> float:
    """nnU-Net's polynomial decay, over the budget: `initial` at its beginning, 0 at its end and after."""
    return float(initial * max(0.0, 1 - spent_s / budget_s) ** _EXPONENT)


def cpu_seconds() -> float:
    """User and system time of this process, of children that ended and of those that run."""
    times = os.times()
    ended = times.user + times.system + times.children_user + times.children_system
    return ended + sum(_of_process(child.pid) for child in multiprocessing.active_children())


def _of_process(pid: int | None) -> float:
    """User and system time of a process and of its ended children; 0 when it has ended itself."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name may hold spaces and parentheses; after it come the fields from the third on (see man 5 proc).
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def link_raw(dataset: Path, raw: Path) -> None:
    """The dataset under a name that nnU-Net takes, its files linked.

    nnU-Net counts what it finds under 'modality' as input channels (its first version's key), letters of a text too, so
    that key stays behind.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for folder in ("imagesTr", "labelsTr"):
        if not (raw / folder).exists():
            (raw / folder).symlink_to((dataset / folder).resolve(), target_is_directory=True)
    content = json.loads((dataset / "dataset.json").read_text())
    content.pop("modality", None)
    (raw / "dataset.json").write_text(json.dumps(content, indent=2) + "\n")


def prepare(work: Path, dataset: Path) -> None:
    """Plan and preprocess `dataset` (nnU-Net v2 layout, with splits_final.json) for 2d."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess_dataset

    link_raw(dataset, work / "raw" / NAME)
    extractor = DatasetFingerprintExtractor(NUMBER, 1)
    extractor.num_foreground_voxels_for_intensitystats = 1e6  # of 1e8; MR is z-scored per image and reads none of it
    extractor.run(overwrite_existing=True)
    plan_experiments([NUMBER])
    preprocess_dataset(NUMBER, PLANS, (CONFIGURATION,), [1], show_progress_bar=False)
    shutil.copyfile(dataset / "splits_final.json", work / "preprocessed" / NAME / "splits_final.json")


def build_trainer(work: Path, batch_size: int | None = None) -> Any:
    """nnU-Net's trainer on the CPU, for fold 0; the plan's batch size when none is given."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = work / "preprocessed" / NAME
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    plans["continue_training"] = False
    if batch_size is not None:
        plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
    trainer = nnUNetTrainer(
        plans=plans,
        configuration=CONFIGURATION,
        fold=0,
        dataset_json=json.loads((folder / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.initialize()
    return trainer


def train(work: Path, seconds: float, batch_size: int | None) -> dict[str, Any]:
    """Update until the budget is spent; write nnU-Net's checkpoint_final.pth, say what was done."""
    import numpy as np
    import torch

    np.random.seed(0)  # noqa: NPY002 (nnU-Net's loaders draw from it)
    torch.manual_seed(0)
    trainer = build_trainer(work, batch_size)
    trainer.on_train_start()
    trainer.network.train()
    began, began_cpu, last = time.monotonic(), cpu_seconds(), time.monotonic()
    iterations, losses, spent, longest = 0, [], 0.0, 0.0
    while not iterations or spent + longest < seconds:  # the next update would still end within the budget
        for group in trainer.optimizer.param_groups:
            group["lr"] = learning_rate(trainer.initial_lr, spent, seconds)
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        iterations += 1
        before, spent = spent, cpu_seconds() - began_cpu
        longest = max(longest, spent - before)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{spent:.0f} CPU-s, {iterations} iterations, loss {np.mean(losses[-50:]):.4f}", flush=True)
    wall_s = time.monotonic() - began
    trainer.on_train_end()
    configuration = trainer.configuration_manager
    return {
        "cpu_s": spent,
        "wall_s": wall_s,
        "steps": iterations,
        "last_losses": float(np.mean(losses[-50:])),
        "last_learning_rate": trainer.optimizer.param_groups[0]["lr"],
        "patch_size": [int(size) for size in configuration.patch_size],
        "batch_size": int(configuration.batch_size),
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "threads": torch.get_num_threads(),
        "versions": {name: metadata.version(name) for name in ("nnunetv2", "torch", "batchgeneratorsv2", "numpy")}
        | {"python": sys.version.split()[0]},
    }


def predict(work: Path) -> None:
    """The validation cases, with nnU-Net's sliding window and mirroring, into its own folder."""
    trainer = build_trainer(work)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.perform_actual_validation()


def masks_folder(work: Path) -> Path:
    """Where `predict` leaves the masks."""
    return work / "results" / NAME / f"nnUNetTrainer__{PLANS}__{CONFIGURATION}" / "fold_0" / "validation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "train", "predict"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--seconds", type=float, default=515)
    parser.add_argument("--augmenters", type=int, default=0, help="augmentation processes; 0: in this process")
    parser.add_argument("--batch", type=int, help="slices per update; the plan's when not given")
    parser.add_argument("--json", type=Path, help="where `train` writes what it did")
    arguments = parser.parse_args()
    # nnU-Net reads these when it is imported. Planning refuses to do without augmentation processes.
    augmenters = arguments.augmenters if arguments.what == "train" else 1
    folders = {f"nnUNet_{name}": str(arguments.work / name) for name in ("raw", "preprocessed", "results")}
    os.environ.update(folders | {"nnUNet_n_proc_DA": str(augmenters), "nnUNet_def_n_proc": "1"})
    if arguments.what == "prepare":
        if arguments.dataset is None:
            parser.error("prepare needs --dataset")
        prepare(arguments.work, arguments.dataset)
    elif arguments.what == "train":
        done = train(arguments.work, arguments.seconds, arguments.batch)
        print(json.dumps(done))
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(done) + "\n")
    else:
        predict(arguments.work)


if __name__ == "__main__":
    main()
