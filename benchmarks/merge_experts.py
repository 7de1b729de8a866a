"""Table 1 of SAM-Med3D-MoE in shape, from scratch on real scans: what an expert gains, and what merging it costs.

    python benchmarks/merge_experts.py --source-acdc ACDC_H5 --source-hippocampus TASK04 --workspace DIR

The general model learns task A (cardiac structures of ACDC: right ventricle, myocardium, left ventricle), an expert
learns task B from it (the hippocampus of MSD Task04, anterior and posterior: another organ, another sequence), and
merge-experts puts them together. With `--new posterior` the tasks lie closer: A is ACDC and the anterior hippocampus,
B the posterior hippocampus of other scans. Rows: the general model (baseline), the expert alone (fine-tuned), merged;
columns: A and B, asked by six clicks or by a box, mean Dice over the held-out cases of fold 0 on the network's grid.
Nothing is pretrained; what is finished in the workspace is used again. By default it takes about 35 CPU-minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measured import run_measured  # noqa: E402

from medmoe_cli.core.base.progress import Silent  # noqa: E402
from medmoe_cli.core.base.workspace import Workspace, find_workspace  # noqa: E402
from medmoe_cli.core.config.merge_report import MergeReport, TaskScore  # noqa: E402
from medmoe_cli.core.engine.device import resolve_compute  # noqa: E402
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe  # noqa: E402
from medmoe_cli.core.workflows.merging.asking import WAYS, Asking  # noqa: E402
from medmoe_cli.core.workflows.merging.data import Owned, load_data  # noqa: E402
from medmoe_cli.core.workflows.model_files.model_folder import load_model  # noqa: E402

METHOD, PRESET = "sam-med3d-moe", "sam-med3d-moe-tiny"
FORGETTING, KEPT = 0.02, 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Datasets and runs of one experiment."""

    general: str
    new: str

    @property
    def base_run(self) -> str:
        return f"{self.general}/{METHOD}/base"

    @property
    def expert_run(self) -> str:
        return f"{self.new}/{METHOD}/expert"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source-acdc", type=Path, required=True, help="folder of ACDC as SSL4MIS has it (.h5)")
    parser.add_argument("--source-hippocampus", type=Path, required=True, help="Task04_Hippocampus")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--new", choices=("hippocampus", "posterior"), default="hippocampus", help="task B")
    parser.add_argument("--general-steps", type=int, default=1000)
    parser.add_argument("--expert-steps", type=int, default=700)
    parser.add_argument("--gate-steps", type=int, default=300)
    parser.add_argument("--tau", default="0.5")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    runner = Runner(arguments.workspace)
    names = prepare(runner, arguments)
    runner.train(names.general, "base", arguments.general_steps, arguments.device)
    expert = ["--set", "model.role=expert", "--set", f"model.general={names.base_run}"]
    runner.train(names.new, "expert", arguments.expert_steps, arguments.device, *expert)
    merged = arguments.workspace / "merged" / f"{names.general}-{names.new}-tau-{arguments.tau}"
    if not (merged / "model.json").is_file():
        runner.run(
            "merge-experts",
            *("--general", names.base_run, "--expert", f"{names.new}={names.expert_run}", "-o", merged),
            *("--steps", arguments.gate_steps, "--tau", arguments.tau, "-d", arguments.device),
        )
    workspace = find_workspace(arguments.workspace)
    report = MergeReport.model_validate(json.loads((merged / "report.json").read_text()))
    fine_tuned = expert_on_everything(workspace, names, device=arguments.device)
    show(report, names, fine_tuned)
    for step, seconds in runner.spent.items():
        print(f"{step}: {seconds / 60:.1f} CPU-min")
    print(f"report: {merged / 'report.json'}, {merged / 'report.png'}")


class Runner:
    """Runs `medmoe` in processes of their own and adds up their CPU time."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.spent: dict[str, float] = {}

    def run(self, *arguments: object) -> None:
        """One verb; its output goes to a log in the workspace."""
        words = [str(argument) for argument in arguments]
        command = [sys.executable, "-m", "medmoe_cli", "--workspace", self.workspace, *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        name = " ".join(words[:5] if words[0] == "train" else words[:1])
        log = self.workspace / "logs" / f"{len(self.spent)}-{words[0]}.log"
        print(f"medmoe {' '.join(words)}", flush=True)
        used = run_measured(command, log=log, env=environment)
        self.spent[f"{len(self.spent) + 1} {name}"] = used.cpu_s

    def train(self, data: str, run: str, steps: int, device: str, *more: str) -> None:
        """A training, unless it is there."""
        folder = self.workspace / "runs" / data / METHOD / run / "fold_0" / "checkpoints"
        if (folder / f"step-{steps}" / "MANIFEST.json").is_file():
            print(f"{data}/{METHOD}/{run} is trained already")
            return
        quiet = ("--set", "train.validation_every=1000", "--set", "train.workers=1")
        begun = ["--resume"] if folder.is_dir() else []
        self.run(
            *("train", "--method", METHOD, "--data", data, "--preset", PRESET, "--name", run, "--steps", steps),
            *("-d", device, *quiet, *more, *begun),
        )


def prepare(runner: Runner, arguments: argparse.Namespace) -> Names:
    """Convert the releases, and for `posterior` deal their cases out to A and B."""
    datasets = arguments.workspace / "datasets"
    if not (datasets / "acdc").is_dir():
        spacing = ("--spacing", "1.5", "1.5", "10")
        runner.run("convert", arguments.source_acdc, "--format", "ssl4mis-h5", "--name", "acdc", *spacing)
    if not (datasets / "hippocampus").is_dir():
        runner.run("convert", arguments.source_hippocampus, "--format", "msd", "--name", "hippocampus")
    if arguments.new == "hippocampus":
        return Names(general="acdc", new="hippocampus")
    names = Names(general="hearts-and-anterior", new="posterior")
    if not (datasets / names.new).is_dir():
        deal(datasets, names)
    return names


def deal(datasets: Path, names: Names) -> None:
    """A: ACDC and every other hippocampus, anterior part; B: the other ones, posterior part."""
    hearts, brains = datasets / "acdc", datasets / "hippocampus"
    heart_labels = labels_of(hearts)
    anterior, posterior = (value for name, value in sorted(labels_of(brains).items()) if name != "background")
    scans = sorted(path.name.removesuffix("_0000.nii.gz") for path in (brains / "imagesTr").glob("*_0000.nii.gz"))
    both = Collection(datasets / names.general)
    for scan in sorted(path.name.removesuffix("_0000.nii.gz") for path in (hearts / "imagesTr").glob("*_0000.nii.gz")):
        both.add(hearts, scan, {value: value for value in heart_labels.values() if value})
    for scan in scans[::2]:
        both.add(brains, scan, {anterior: max(heart_labels.values()) + 1})
    patients = json.loads((hearts / "dataset.json").read_text()).get("patients", {})
    names_and_values = {**heart_labels, "hippocampus_anterior": max(heart_labels.values()) + 1}
    both.finish(names_and_values, {scan: patients.get(scan, scan) for scan in both.scans})
    other = Collection(datasets / names.new)
    for scan in scans[1::2]:
        other.add(brains, scan, {posterior: 1})
    other.finish({"background": 0, "hippocampus_posterior": 1}, {})


class Collection:
    """A dataset made of other datasets' cases."""

    def __init__(self, root: Path) -> None:
        self.root, self.scans = root, list[str]()
        self._building = root.with_name(f".building-{root.name}")
        shutil.rmtree(self._building, ignore_errors=True)
        for folder in ("imagesTr", "labelsTr"):
            (self._building / folder).mkdir(parents=True)

    def add(self, source: Path, scan: str, values: dict[int, int]) -> None:
        """A case with some of its label values, renumbered."""
        import nibabel as nib
        import numpy as np

        image = source / "imagesTr" / f"{scan}_0000.nii.gz"
        shutil.copyfile(image, self._building / "imagesTr" / image.name)
        label = nib.load(source / "labelsTr" / f"{scan}.nii.gz")
        old = np.asanyarray(label.dataobj)
        new = np.zeros(old.shape, np.uint8)
        for value, number in values.items():
            new[old == value] = number
        nib.save(nib.Nifti1Image(new, label.affine), self._building / "labelsTr" / f"{scan}.nii.gz")
        self.scans.append(scan)

    def finish(self, labels: dict[str, int], patients: dict[str, str]) -> None:
        """Write dataset.json and give the folder its name."""
        content = {
            "channel_names": {"0": "MR"},
            "labels": labels,
            "numTraining": len(self.scans),
            "file_ending": ".nii.gz",
            **({"patients": patients} if patients else {}),
        }
        (self._building / "dataset.json").write_text(json.dumps(content, indent=2))
        self._building.replace(self.root)


def labels_of(dataset: Path) -> dict[str, int]:
    """dataset.json's labels."""
    return {name: int(value) for name, value in json.loads((dataset / "dataset.json").read_text())["labels"].items()}


def expert_on_everything(workspace: Workspace, names: Names, *, device: str) -> dict[tuple[str, str], float]:
    """The fine-tuned row: the expert's Dice on A's and B's held-out cases, by dataset and way."""
    loaded = load_model(names.expert_run, workspace=workspace)
    assert isinstance(loaded.segmenter, SamMed3dMoe)
    data = load_data(
        (Owned(dataset=names.general, owner=0), Owned(dataset=names.new, owner=1)),
        workspace=workspace,
        plan=loaded.plan,
        names=(names.new,),
        fold="0",
        choose_tau=False,
        workers=1,
        reporter=Silent(),
    )
    asking = Asking(loaded.segmenter, compute=resolve_compute(device, "32"))
    dataset_of = {task.value: task.dataset for task in data.tasks}
    found: dict[tuple[str, str, int], list[float]] = {}
    for asked in asking.samples(data.held_out, range(len(data.held_out))):
        for way in WAYS:
            dice = asking.ask(loaded.segmenter, asked, way).dice
            found.setdefault((dataset_of[asked.task], way, asked.task), []).append(dice)
    means: dict[tuple[str, str], list[float]] = {}
    for (dataset, way, _), values in found.items():
        means.setdefault((dataset, way), []).append(mean(values))
    return {place: mean(values) for place, values in means.items()}


def show(report: MergeReport, names: Names, fine_tuned: dict[tuple[str, str], float]) -> None:
    """The table, forgetting and the share of the gain that is kept, beside their targets."""

    def column(dataset: str, way: str, row: str) -> float:
        scores: Sequence[TaskScore] = [one for one in report.tasks if (one.dataset, one.way) == (dataset, way)]
        return mean([getattr(one, row) for one in scores])

    places = [(dataset, way) for dataset in (names.general, names.new) for way in WAYS]
    print(f"\nA = {names.general}, B = {names.new}; mean Dice over classes, held-out cases, {report.grid} grid")
    print(f"{'':12}" + "".join(f"{'AB'[dataset == names.new]} {way:>8}  " for dataset, way in places))
    rows = {
        "baseline": [column(dataset, way, "general") for dataset, way in places],
        "fine-tuned": [fine_tuned[place] for place in places],
        "merged": [column(dataset, way, "merged") for dataset, way in places],
    }
    for name, values in rows.items():
        print(f"{name:12}" + "".join(f"{value:10.3f}  " for value in values))
    baseline, expert, merged = rows.values()
    for place, (dataset, way) in enumerate(places):
        if dataset == names.general:
            change = merged[place] - baseline[place]
            verdict = "met" if change >= -FORGETTING else "MISSED"
            print(f"forgetting on A, {way}: {change:+.3f} (target {-FORGETTING:+.2f}: {verdict}); ", end="")
            print(f"the expert alone {expert[place] - baseline[place]:+.3f}")
            continue
        gain, kept = expert[place] - baseline[place], merged[place] - baseline[place]
        if gain <= 0:
            print(f"gain on B, {way}: the expert gained nothing ({gain:+.3f})")
            continue
        verdict = "met" if kept >= KEPT * gain else "MISSED"
        print(f"gain on B, {way}: {kept:+.3f} of {gain:+.3f}, {kept / gain:.0%} (target {KEPT:.0%}: {verdict})")
    print(f"whom the selector chose (tau {report.tau:g}), of {', '.join(report.routing.owners)}:")
    for owner, counts in zip(report.routing.owners, report.routing.counts, strict=True):
        print(f"  tasks of {owner}: {', '.join(map(str, counts))}")


def mean(values: Sequence[float]) -> float:
    """Of some numbers."""
    return sum(values) / len(values)


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
