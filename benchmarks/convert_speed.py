"""`medmoe convert` and `check` of the hippocampi, against nnU-Net's integrity check and fingerprint: wall time.

    python benchmarks/convert_speed.py --data ../shared/data/Task04_Hippocampus --nnunet /path/to/venv/bin
        [--rounds 3] [--workers 2] [--work DIR] [--json FILE]

Both sides are the commands as a user types them, start of Python included, with as many worker processes, in turns
after one another on the same machine. Ours read the Decathlon's release, write the dataset, then read every voxel of it
again. nnU-Net is given the finished dataset: it checks it and collects its fingerprint, in one command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measured import Spent, run_measured  # noqa: E402
from benchmarks.nnunet_linked import integrity_command, link_dataset, nnunet_environment  # noqa: E402

NUMBER = 904


def ours(source: Path, work: Path, workers: int, turn: int) -> dict[str, Spent]:
    """One conversion and one check, in an empty workspace."""
    workspace = work / f"workspace-{turn}"
    medmoe = [sys.executable, "-m", "medmoe_cli", "--workspace", str(workspace)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    spent = {}
    for verb, arguments in (
        ("convert", [str(source), "--format", "msd", "--name", "hippocampus"]),
        ("check", ["hippocampus"]),
    ):
        command = [*medmoe, verb, *arguments, "--workers", str(workers)]
        spent[verb] = run_measured(command, log=work / f"{verb}-{turn}.log", env=environment)
    return spent


def theirs(dataset: Path, work: Path, workers: int, turn: int, nnunet: Path) -> Spent:
    """One integrity check with fingerprint, on the dataset of the first turn."""
    raw = work / "raw"
    if not raw.exists():
        link_dataset(dataset, raw, NUMBER)
    shutil.rmtree(work / "preprocessed", ignore_errors=True)
    command = integrity_command(nnunet, NUMBER, workers)
    return run_measured(command, log=work / f"nnunet-{turn}.log", env=nnunet_environment(raw, work))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each turn and the medians; 1 when ours takes longer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True, help="folder of nnU-Net's commands")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    work = given.work or Path(tempfile.mkdtemp(prefix="medmoe-speed-"))
    turns = []
    print(f"{'turn':>4} {'convert s':>9} {'check s':>8} {'both s':>7} {'nnU-Net s':>9}   (CPU-s: both, nnU-Net)")
    for turn in range(given.rounds):
        mine = ours(given.data, work, given.workers, turn)
        dataset = work / "workspace-0" / "datasets" / "hippocampus"
        peer = theirs(dataset, work, given.workers, turn, given.nnunet)
        both = mine["convert"].wall_s + mine["check"].wall_s
        cpu = mine["convert"].cpu_s + mine["check"].cpu_s
        turns.append({"convert_s": mine["convert"].wall_s, "check_s": mine["check"].wall_s, "both_s": both,
                      "nnunet_s": peer.wall_s, "both_cpu_s": cpu, "nnunet_cpu_s": peer.cpu_s})  # fmt: skip
        print(
            f"{turn:4} {mine['convert'].wall_s:9.1f} {mine['check'].wall_s:8.1f} {both:7.1f} {peer.wall_s:9.1f}"
            f"   ({cpu:.1f}, {peer.cpu_s:.1f})",
            flush=True,
        )
    medians = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    print(f"median: both {medians['both_s']:.1f} s, nnU-Net {medians['nnunet_s']:.1f} s")
    if given.json:
        given.json.write_text(json.dumps({"turns": turns, "medians": medians}, indent=2) + "\n")
    return int(medians["both_s"] >= medians["nnunet_s"])


if __name__ == "__main__":
    sys.exit(main())
