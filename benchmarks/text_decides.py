"""Does the text decide what is found? Measured on the validation images of a run, on the network's grid.

    python benchmarks/text_decides.py --data DATA [-m RUN] [--steps N] [--preset da-sam3-tiny] [--workspace DIR]

Without -m a run is trained first, and its CPU time printed. --threshold and --presence take the place of the model's
own; several thresholds or presences are measured side by side. Every validation slice is asked for every class by name:
- decided: of the names of present organs, in images that show at least three, the share whose mask covers more pixels
  of the organ named than of any other;
- silent: of the names of organs that are not in the image (slices without any label included), the share that is
  answered by an empty mask.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from medmoe_cli.core.base.progress import Silent  # noqa: E402
from medmoe_cli.core.base.workspace import Workspace, find_workspace  # noqa: E402
from medmoe_cli.core.config.sections import PlanConfig  # noqa: E402
from medmoe_cli.core.data.index import open_dataset  # noqa: E402
from medmoe_cli.core.data.preprocess import finished_records, make_jobs, store_folder  # noqa: E402
from medmoe_cli.core.data.source import SliceSource  # noqa: E402
from medmoe_cli.core.data.splits import split  # noqa: E402
from medmoe_cli.core.data.store import Store  # noqa: E402
from medmoe_cli.core.engine.device import resolve_compute  # noqa: E402
from medmoe_cli.core.nn.prompts import QueryPrompt, collate  # noqa: E402
from medmoe_cli.core.workflows.model_files.model_folder import find_model, load_model  # noqa: E402
from medmoe_cli.core.workflows.plan import ensure_plan  # noqa: E402
from medmoe_cli.core.workflows.predicting.answering import ready  # noqa: E402

LEAST_ORGANS = 3


@dataclass(slots=True)
class Counts:
    """Of one class."""

    decided: list[bool] = field(default_factory=list)
    silent: list[bool] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)


def count(masks: NDArray[np.bool_], label: NDArray[np.integer], values: list[int], found: dict[int, Counts]) -> None:
    """Take in one image.

    Args:
        masks: bool (C, H, W), the answer to each class's name.
        label: (H, W).
        values: label value of each class.
        found: by value; added to.
    """
    present = [value for value in values if (label == value).any()]
    for mask, value in zip(masks, values, strict=True):
        if value not in present:
            found[value].silent.append(not mask.any())
            continue
        organ = label == value
        total = int(mask.sum()) + int(organ.sum())
        found[value].dice.append(2 * int((mask & organ).sum()) / total)
        if len(present) >= LEAST_ORGANS:
            overlaps = {other: int((mask & (label == other)).sum()) for other in present}
            rest = max(overlaps[other] for other in present if other != value)
            found[value].decided.append(overlaps[value] > rest)


def measure(
    run: str, *, workspace: Workspace, device: str, thresholds: Sequence[float], presences: Sequence[float]
) -> None:
    torch.set_num_threads(1)
    folder = find_model(run, workspace=workspace)
    model = load_model(folder, workspace=workspace)
    plan, dataset = model.plan, open_dataset(workspace.dataset(model.plan.dataset))
    planned = ensure_plan(
        workspace=workspace,
        dataset=dataset,
        method=plan.method,
        preset=plan.preset,
        overrides=PlanConfig(),
        reporter=Silent(),
        write=False,
    )
    jobs = make_jobs(dataset, plan, planned.inputs, store_folder(planned.folder, plan))
    records = finished_records(jobs)
    cases = split(dataset, folder.name.removeprefix("fold_"), folder=planned.folder).validation
    source = SliceSource(
        store=Store(folder=jobs[0].folder), records=records, cases=cases, plan=plan, empty_fraction=None
    )
    inference = ready(model.segmenter, plan=plan, predict=model.predict, compute=resolve_compute(device, "32"))
    names, values = plan.class_names, [plan.labels[name] for name in plan.class_names]
    asked = collate(
        [QueryPrompt(class_index=index) for index in range(len(names))], mask_size=model.segmenter.mask_size
    )
    rules = [
        (threshold, presence)
        for threshold in thresholds or [model.predict.threshold]
        for presence in presences or [model.predict.presence]
    ]
    found: dict[tuple[float, float], dict[int, Counts]] = {rule: defaultdict(Counts) for rule in rules}
    for index in range(len(source)):
        sample = source.load(index, seed=None)
        (features,) = inference.encode([sample.image])
        answer = inference.answer(features, asked)
        assert sample.label is not None
        for (threshold, presence), counts in found.items():
            masks = answer.probabilities[:, 0] >= threshold
            if answer.scores is not None:
                masks &= (answer.scores >= presence)[:, None, None]
            count(masks & sample.valid, sample.label, values, counts)
    print(f"{run}: {len(source)} validation slices of {len(cases)} cases")
    for (threshold, presence), counts in found.items():
        print(f"threshold {threshold}, presence {presence}")
        show(dict(zip(names, values, strict=True)), counts)


def show(labels: Mapping[str, int], found: Mapping[int, Counts]) -> None:
    print(f"{'class':32s} {'Dice':>6s} {'decided':>16s} {'silent':>16s}")
    for name, value in labels.items():
        own = found[value]
        mean = f"{np.mean(own.dice):6.3f}" if own.dice else "     -"
        print(f"{name:32s} {mean} {share(own.decided):>16s} {share(own.silent):>16s}")
    everything = [mark for own in found.values() for mark in own.decided]
    nothing = [mark for own in found.values() for mark in own.silent]
    dice = [value for own in found.values() for value in own.dice]
    print(f"{'all':32s} {np.mean(dice):6.3f} {share(everything):>16s} {share(nothing):>16s}")


def share(marks: list[bool]) -> str:
    return f"{sum(marks)}/{len(marks)} {100 * sum(marks) / len(marks):.1f} %" if marks else "-"


def train(given: argparse.Namespace, workspace: Workspace) -> str:
    """Train a run with one thread and say what it took."""
    command = [sys.executable, "-m", "medmoe_cli", "--workspace", str(workspace.root), "train", "--method", "da-sam3"]
    command += ["--data", given.data, "--preset", given.preset, "--name", given.name, "-d", given.device]
    if given.steps:
        command += ["--steps", str(given.steps)]
    for assignment in given.set:
        command += ["--set", assignment]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"trained in {(used.ru_utime + used.ru_stime) / 60:.1f} CPU-minutes (with checks and validation)")
    return f"{given.data}/da-sam3/{given.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="a run, as predict takes it; without it one is trained")
    parser.add_argument("--data", help="dataset to train on")
    parser.add_argument("--preset", default="da-sam3-tiny")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--name", default="text-decides")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as train takes it")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("-d", "--device", default="cpu")
    parser.add_argument("--threshold", type=float, nargs="+", default=[])
    parser.add_argument("--presence", type=float, nargs="+", default=[])
    given = parser.parse_args()
    if given.model is None and given.data is None:
        parser.error("name a run with -m, or a dataset with --data")
    workspace = find_workspace(given.workspace)
    measure(
        given.model or train(given, workspace),
        workspace=workspace,
        device=given.device,
        thresholds=given.threshold,
        presences=given.presence,
    )


if __name__ == "__main__":
    main()
