"""From raw releases to a trained SegMoTE: convert the members, build MedSeg-HQ, train on it, count experts and Dice.

    python benchmarks/medseg_hq.py --raw ../shared/data --workspace /tmp/medseg-hq [--steps 6000]

RAW holds what is there of BTCV (IMed-361M slices), acdc_h5, Task04_Hippocampus, sz_cxr and isic; a member that is in
the workspace already is taken as it is, and so is a collection (--rebuild builds it again); an interrupted training of
that --run goes on, a finished one is read. Prints, for every routed place of the network, the share of answers that
each expert gave on held-out patients: of all answers, as the mean over images, and by member (the question: does each
get a tenth of the images at least?), and per member the Dice of masks from a tight box beside that of an ellipse drawn
into the same box. All of it is also written to WORKSPACE/medseg_hq.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NAME = "medseg-hq"
LEAST_SHARE = 0.1

MEMBERS = {
    "btcv": ("BTCV", ["--format", "imed361m", "--modality", "CT"]),
    "acdc": ("acdc_h5", ["--format", "ssl4mis-h5", "--spacing", "1.5", "1.5", "10", "--modality", "MR"]),
    "hippocampus": ("Task04_Hippocampus", ["--format", "msd"]),
    "sz-cxr": ("sz_cxr", ["--format", "sz-cxr"]),
    "isic-2016": (
        "isic",
        ["--format", "folder", "--label-names", "lesion", "--threshold", "127", "--modality", "dermoscopy"],
    ),
}


def main() -> None:
    """Run all of it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--preset", default="segmote-tiny")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--run", default="benchmark", help="name of the training")
    parser.add_argument("--fraction", help="share of each class to keep; without it, convert's own rule")
    parser.add_argument("--rebuild", action="store_true", help="build the collection again")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    datasets = arguments.workspace / "datasets"
    seconds: dict[str, float] = {}
    for name, (folder, options) in MEMBERS.items():
        if not (datasets / name / "dataset.json").is_file() and (arguments.raw / folder).is_dir():
            command = ["convert", arguments.raw / folder, "--name", name, *options]
            seconds[f"convert {name}"] = medmoe(arguments.workspace, *command)[1]
    if arguments.rebuild or not (datasets / NAME / "dataset.json").is_file():
        fraction = ["--fraction", arguments.fraction] if arguments.fraction else []
        seconds["build"] = medmoe(
            arguments.workspace, "convert", NAME, "--members", "+hippocampus", "--overwrite", *fraction
        )[1]
    sheet = json.loads((datasets / NAME / "datasheet.json").read_text())
    for member in sheet["members"]:
        print(f"{member['dataset']}: {member['masks_selected']} of {member['masks']} masks ({member['modality']})")

    command = ["train", "--method", "segmote", "--data", NAME, "--preset", arguments.preset, "--name", arguments.run]
    command += ["--steps", str(arguments.steps)] if arguments.steps else []
    for assignment in arguments.assignments:
        command += ["--set", assignment]
    fold = arguments.workspace / "runs" / NAME / "segmote" / arguments.run / "fold_0"
    folder = fold / "validation"
    if not (folder / "prompts.json").is_file():
        command += ["--resume"] if (fold / "checkpoints").is_dir() else []
        seconds["train"] = medmoe(arguments.workspace, *command)[1]
    experts = expert_shares(json.loads((folder / "routing.json").read_text()))
    dice = box_dice(json.loads((folder / "prompts.json").read_text()))
    show(experts, dice, seconds)
    result = {"experts": experts, "dice": dice, "seconds": seconds}
    (arguments.workspace / "medseg_hq.json").write_text(json.dumps(result, indent=2) + "\n")


def medmoe(workspace: Path, *arguments: object) -> tuple[Any, float]:
    """Run a command; its --json answer and how long it took."""
    command = [sys.executable, "-m", "medmoe_cli", "--workspace", workspace, "--json", *arguments]
    began = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {done.returncode}")
    return json.loads(done.stdout), time.perf_counter() - began


def expert_shares(routing: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """By routed place: the share of answers by expert, of all, as means over images and members, and of each member."""
    found = {}
    for place, use in routing["places"].items():
        members: dict[str, list[list[float]]] = defaultdict(list)
        for case, counts in use["cases"].items():
            members[case.partition("/")[0]].append(counts)
        shares = {
            member: (np.sum(counts, axis=0) / np.sum(counts)).tolist() for member, counts in sorted(members.items())
        }
        cases = np.array([counts for of_member in members.values() for counts in of_member], float)
        every = cases.sum(axis=0)
        found[place] = {
            "answers": (every / every.sum()).tolist(),
            "images alike": (cases / cases.sum(axis=1, keepdims=True)).mean(axis=0).tolist(),
            "members alike": np.mean(list(shares.values()), axis=0).tolist(),
            **shares,
        }
    return found


def box_dice(prompts: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By member: mean Dice over held-out instances, from a box and of an ellipse in it."""
    found = {}
    for member in prompts["members"]:
        ways = {way["way"]: way for way in member["ways"]}
        found[member["score"]["dataset"]] = {
            "box": ways["box"]["mean_dice"],
            "ellipse": ways["ellipse"]["mean_dice"],
            "instances": ways["box"]["num_instances"],
        }
    return found


def show(
    experts: dict[str, dict[str, list[float]]], dice: dict[str, dict[str, float]], seconds: dict[str, float]
) -> None:
    """Print the answers."""
    for place, rows in experts.items():
        print(f"\n{place}: share of answers by expert")
        for name, shares in rows.items():
            print(f"  {name:16} " + " ".join(f"{share:6.1%}" for share in shares))
        for name, shares in list(rows.items())[:2]:
            least = min(shares)
            print(f"  least of {name} {least:.1%}: {'ok' if least >= LEAST_SHARE else f'under {LEAST_SHARE:.0%}'}")
    print("\nDice from a box, and of an ellipse in it")
    for member, row in dice.items():
        verdict = "above" if row["box"] > row["ellipse"] else "not above"
        print(f"  {member:16} {row['box']:.4f} {row['ellipse']:.4f}  {verdict}; {row['instances']} instances")
    print("\nseconds: " + ", ".join(f"{what} {taken:.0f}" for what, taken in seconds.items()))


if __name__ == "__main__":
    main()
