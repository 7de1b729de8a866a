"""MoE-SAM from scratch against nnU-Net 2d at equal CPU time: Hippocampus, 100 cases to train, 30 to validate.

    python benchmarks/hippocampus_cpu.py --source ../shared/data/Task04_Hippocampus [--seconds 515] [--threads 1]
        [--preset moe-sam-tiny] [--nnunet PYTHON] [--nnunet-batch 12] [--json FILE] [--work DIR]

The cases are split by sorted id. Ours is `medmoe train`, as it comes: all CPU-seconds of its process and workers count,
imports, checks, planning, preprocessing and the final validation included. nnU-Net trains for as many CPU-seconds as
--seconds says, in which neither imports nor planning, preprocessing, validation or prediction count
(nnunet_budget.py); its validation masks are made with mirroring. Both get the same threads, one after the other, and
the same scores. --nnunet-batch adds rows in which the plan's batch size, meant for a GPU, is replaced.

nnU-Net is no dependency: where PYTHON (default: this one) cannot import nnunetv2, its rows are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import medmoe_cli
from medmoe_cli.console import Console
from medmoe_cli.core.base import jsonio
from medmoe_cli.core.workflows.evaluate import run_evaluate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import nnunet_budget  # noqa: E402
from benchmarks.measured import Spent, run_measured  # noqa: E402

NAME, RUN = "hippocampus", "benchmark"
NUM_TRAIN, NUM_VALIDATION = 100, 30
_FORBIDDEN = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA", "MEDMOE_HOME")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method's line.

    Attributes:
        method: and what sets it apart.
        budget_s: CPU-seconds of what the budget is about: ours the whole process, nnU-Net's its updates.
        process_s: CPU-seconds of the training's whole process and its workers.
        loop_wall_s: seconds by the clock that the training loop took.
        steps: updates.
        dice: class name to mean Dice over the validation cases, and 'mean' over classes.
        versions: of what ran.
    """

    method: str
    budget_s: float
    process_s: float
    loop_wall_s: float
    steps: int
    dice: dict[str, float]
    versions: dict[str, str]

    @property
    def steps_per_s(self) -> float:
        """Updates per second by the clock."""
        return self.steps / self.loop_wall_s


def split_by_id(cases: Sequence[str]) -> dict[str, list[str]]:
    """The one fold: the first 100 sorted ids train, the last 30 validate.

    Raises:
        SystemExit: it is not the data that the numbers are about.
    """
    ordered = sorted(set(cases))
    if len(ordered) != NUM_TRAIN + NUM_VALIDATION:
        raise SystemExit(f"{NUM_TRAIN + NUM_VALIDATION} cases expected, {len(ordered)} found")
    return {"train": ordered[:NUM_TRAIN], "val": ordered[NUM_TRAIN:]}


def loop_of(log: Path) -> tuple[int, float]:
    """Updates and clock seconds of the training loop, from a run's log.jsonl.

    Raises:
        SystemExit: no epoch was finished.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    if not epochs:
        raise SystemExit(f"{log} has no finished epoch")
    return int(epochs[-1]["step"]), float(epochs[-1]["machine"]["seconds"])


def table(rows: Sequence[Row], budget_s: float) -> str:
    """The rows as text, columns aligned, and what the columns mean."""
    classes = [name for name in rows[0].dice if name != "mean"]
    cells = [["method", "CPU-s", "process CPU-s", "mean Dice", *classes, "updates", "updates/s", "versions"]]
    for row in rows:
        over = " (over!)" if row.budget_s > budget_s else ""
        cells.append(
            [
                row.method,
                f"{row.budget_s:.0f}{over}",
                f"{row.process_s:.0f}",
                *(f"{row.dice[name]:.4f}" for name in ("mean", *classes)),
                str(row.steps),
                f"{row.steps_per_s:.2f}",
                ", ".join(f"{name} {version}" for name, version in row.versions.items()),
            ]
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(
        [
            *lines,
            "",
            f"CPU-s is held against the budget of {budget_s:.0f}: medmoe's whole process with its workers, nnU-Net's "
            "updates alone.",
            f"Dice over {NUM_VALIDATION} validation volumes; updates/s by the clock.",
        ]
    )


def score(masks: Path, dataset: Path, validation: Sequence[str]) -> dict[str, float]:
    """Mean Dice per class and over classes, medmoe's convention, of exactly the validation cases."""
    with tempfile.TemporaryDirectory() as folder:
        references = Path(folder)
        for case in validation:
            (references / f"{case}.nii.gz").symlink_to((dataset / "labelsTr" / f"{case}.nii.gz").resolve())
        summary = run_evaluate(
            predictions=masks, references=references, dataset=dataset, workers=1, reporter=Console(verbosity=-1)
        )
    means = {item.scored.name: item.statistics["Dice"].mean for item in summary.aggregate.classes}
    return {"mean": summary.aggregate.overall["Dice"].mean, **means}


def environment(threads: int) -> dict[str, str]:
    """This environment, with the same number of threads for every library and none of either tool's settings."""
    kept = {name: value for name, value in os.environ.items() if name not in _FORBIDDEN}
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, **limits, "PYTHONPATH": path, "COLUMNS": "160"}


def prepare(source: Path, work: Path, env: dict[str, str]) -> tuple[Path, list[str]]:
    """Convert the release and write its one fold; return the dataset's folder and the validation cases."""
    command = [sys.executable, "-m", "medmoe_cli", "--workspace", work, "convert", source.resolve()]
    run_measured([*command, "--format", "msd", "--name", NAME, "--overwrite"], log=work / "convert.log", env=env)
    dataset = work / "datasets" / NAME
    fold = split_by_id([path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTr").glob("*.nii.gz")])
    jsonio.write(dataset / "splits_final.json", [fold])
    return dataset, fold["val"]


def run_medmoe(work: Path, arguments: argparse.Namespace, env: dict[str, str]) -> tuple[Path, Row]:
    """Train from nothing but the dataset; return the masks' folder and the row, not scored yet."""
    for left in (work / "preprocessed" / NAME, work / "runs" / NAME):  # what is found there would not be counted
        shutil.rmtree(left, ignore_errors=True)
    command = [sys.executable, "-m", "medmoe_cli", "--workspace", work, "train", "--method", arguments.method]
    command += ["--data", NAME, "--preset", arguments.preset, "--fold", "0", "--name", RUN, "--device", "cpu"]
    for assignment in arguments.assignments:
        command += ["--set", assignment]
    spent = run_measured(command, log=work / "train.log", env=env)
    folder = work / "runs" / NAME / arguments.method / RUN / "fold_0"
    steps, loop_wall_s = loop_of(folder / "log.jsonl")
    return folder / "validation" / "masks", Row(
        method=f"{arguments.method}, {arguments.preset}",
        budget_s=spent.cpu_s,
        process_s=spent.cpu_s,
        loop_wall_s=loop_wall_s,
        steps=steps,
        dice={},
        versions={"medmoe": medmoe_cli.__version__, "torch": metadata.version("torch")},
    )


def has_nnunet(python: str) -> bool:
    """Whether that Python can import nnunetv2."""
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('nnunetv2') is None)"
    return subprocess.run([python, "-c", found], capture_output=True).returncode == 0


def run_nnunet(
    work: Path, dataset: Path, arguments: argparse.Namespace, env: dict[str, str], batch: int | None
) -> tuple[Path, Row]:
    """Train within the budget and predict; return the masks' folder and the row, not scored yet."""
    command = [arguments.nnunet, Path(nnunet_budget.__file__)]
    place = ["--work", work]
    if not (work / "preprocessed" / nnunet_budget.NAME / "splits_final.json").is_file():  # what preparing writes last
        run_measured([*command, "prepare", *place, "--dataset", dataset], log=work / "prepare.log", env=env)
    done = work / "train.json"
    options: list[str | Path] = ["--seconds", str(arguments.seconds), "--augmenters", str(arguments.augmenters)]
    options += ["--json", done, *([] if batch is None else ["--batch", str(batch)])]
    shutil.rmtree(work / "results", ignore_errors=True)
    spent: Spent = run_measured([*command, "train", *place, *options], log=work / "train.log", env=env)
    run_measured([*command, "predict", *place], log=work / "predict.log", env=env)
    masks = work / f"masks-{batch or 'plan'}"
    shutil.rmtree(masks, ignore_errors=True)
    masks.mkdir()
    for path in nnunet_budget.masks_folder(work).glob("*.nii.gz"):
        shutil.copyfile(path, masks / path.name)
    result: dict[str, Any] = json.loads(done.read_text())
    patch = "x".join(map(str, result["patch_size"]))
    return masks, Row(
        method=f"nnU-Net 2d, patch {patch}, batch {result['batch_size']}{'' if batch is None else ' (not its plan)'}",
        budget_s=result["cpu_s"],
        process_s=spent.cpu_s,
        loop_wall_s=result["wall_s"],
        steps=result["steps"],
        dice={},
        versions={name: result["versions"][name] for name in ("nnunetv2", "torch")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the release's folder, Task04_Hippocampus")
    parser.add_argument("--seconds", type=float, default=515)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--method", default="moe-sam")
    parser.add_argument("--preset", default="moe-sam-tiny")
    parser.add_argument("--set", dest="assignments", action="append", default=[], help="as of medmoe train")
    parser.add_argument("--nnunet", default=sys.executable, metavar="PYTHON", help="a Python that has nnunetv2")
    parser.add_argument("--nnunet-batch", type=int, action="append", default=[], help="one more nnU-Net, of that batch")
    parser.add_argument("--augmenters", type=int, default=0, help="nnU-Net's augmentation processes; 0: its own")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help="keep what is made here, and reuse nnU-Net's preprocessing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = _compare(arguments, (arguments.work or Path(scratch)).resolve())
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads, Python {sys.version.split()[0]}"
    )
    print(f"\n{table(rows, arguments.seconds)}\n{machine}")
    if arguments.json is not None:
        written = {"budget_s": arguments.seconds, "machine": machine, "rows": [asdict(row) for row in rows]}
        jsonio.write(arguments.json, written)


def _compare(arguments: argparse.Namespace, work: Path) -> list[Row]:
    env = environment(arguments.threads)
    dataset, validation = prepare(arguments.source, work / "medmoe", env)
    rows: list[Row] = []

    def add(masks: Path, row: Row) -> None:
        rows.append(Row(**{**asdict(row), "dice": score(masks, dataset, validation)}))
        print(f"{row.method}: mean Dice {rows[-1].dice['mean']:.4f}, {row.budget_s:.0f} CPU-seconds", flush=True)

    add(*run_medmoe(work / "medmoe", arguments, env))
    if not has_nnunet(arguments.nnunet):
        print(f"nnU-Net is left out: {arguments.nnunet} cannot import nnunetv2 (give one that can: --nnunet PYTHON)")
        return rows
    for batch in (None, *arguments.nnunet_batch):
        add(*run_nnunet(work / "nnunet", dataset, arguments, env, batch))
    return rows


if __name__ == "__main__":
    main()
