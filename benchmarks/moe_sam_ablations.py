"""The rows of MoE-SAM's tables 2 and 3: their flags, their parameters and, with --train, a short training of each.

    python benchmarks/moe_sam_ablations.py [--labels 7] [--size 256]
    python benchmarks/moe_sam_ablations.py --train DATA --steps 200 [--preset moe-sam-tiny] [--workspace DIR]

Parameters are counted without computing anything. A training is `medmoe train` with the row's flags. The tiny preset
trains its encoder from scratch, so its rows differ by what stands beside the encoder, not by how it is adapted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from medmoe_cli.core.config.plan import ChannelPlan, Plan  # noqa: E402
from medmoe_cli.core.config.presets import load_preset, resolve  # noqa: E402
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig  # noqa: E402
from medmoe_cli.core.models.moe_sam.model import MoeSam  # noqa: E402


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row: its name, its flags, the Dice that the paper prints (MMWHS, per cent)."""

    name: str
    adapter: str
    fusion: str
    lpeg: bool
    paper: float

    @property
    def flags(self) -> list[str]:
        return [f"model.adapter={self.adapter}", f"model.fusion={self.fusion}", f"model.lpeg={str(self.lpeg).lower()}"]


ROWS = (
    Row(name="2 adapter", adapter="attention+mlp", fusion="none", lpeg=False, paper=87.24),
    Row(name="2 adapter, FEB", adapter="attention+mlp", fusion="moe", lpeg=False, paper=88.38),
    Row(name="2 adapter, LPEG", adapter="attention+mlp", fusion="none", lpeg=True, paper=88.09),
    Row(name="2 adapter, FEB, LPEG", adapter="attention+mlp", fusion="moe", lpeg=True, paper=89.38),
    Row(name="2 LoRA", adapter="lora", fusion="none", lpeg=False, paper=87.05),
    Row(name="2 LoRA, FEB", adapter="lora", fusion="moe", lpeg=False, paper=88.59),
    Row(name="2 LoRA, LPEG", adapter="lora", fusion="none", lpeg=True, paper=87.42),
    Row(name="2 LoRA, FEB, LPEG", adapter="lora", fusion="moe", lpeg=True, paper=88.76),
    Row(name="3 SAM", adapter="none", fusion="none", lpeg=False, paper=82.11),
    Row(name="3 SAM, add", adapter="none", fusion="add", lpeg=False, paper=83.02),
    Row(name="3 SAM, FEB", adapter="none", fusion="moe", lpeg=False, paper=83.60),
    Row(name="3 SAM-Med2D", adapter="sam-med2d", fusion="none", lpeg=False, paper=81.42),
    Row(name="3 SAM-Med2D, add", adapter="sam-med2d", fusion="add", lpeg=False, paper=81.04),
    Row(name="3 SAM-Med2D, FEB", adapter="sam-med2d", fusion="moe", lpeg=False, paper=81.96),
    Row(name="3 SAMed (LoRA)", adapter="lora", fusion="none", lpeg=False, paper=87.05),
    Row(name="3 SAMed (LoRA), add", adapter="lora", fusion="add", lpeg=False, paper=87.90),
    Row(name="3 SAMed (LoRA), FEB", adapter="lora", fusion="moe", lpeg=False, paper=88.59),
)


def parameters(row: Row, *, preset: str, size: int, labels: int) -> tuple[int, int]:
    """(all, trainable), counted on torch's meta device."""
    resolved = resolve(load_preset(preset), MoeSamConfig, assignments=row.flags)
    plan = Plan(
        dataset="none",
        method="moe-sam",
        preset=preset,
        dims=2,
        slice_axis=2,
        input_size=size,
        spacing_mm=None,
        channels=(ChannelPlan(name="CT", normalization="none"),),
        labels={f"organ {value}": value for value in range(1, labels + 1)},
        class_prompts={},
        binary=labels == 1,
        mirror_axes=(),
        batch_size=8,
        num_experts=4,
        fingerprint_sha256="0" * 64,
        reasons={},
    )
    assert isinstance(resolved.model, MoeSamConfig)
    with torch.device("meta"):
        groups = MoeSam.build(resolved.model, plan).parameter_groups()
    return sum(group.total for group in groups), sum(group.trainable for group in groups)


def train(row: Row, options: argparse.Namespace) -> str:
    """Dice on the validation cases after a short training, or how it ended."""
    name = "".join(letter if letter.isalnum() else "-" for letter in row.name)
    sets = [item for flag in [*row.flags, *options.set] for item in ("--set", flag)]
    folder = ["--workspace", options.workspace] if options.workspace else []
    command = [sys.executable, "-m", "medmoe_cli", "--json", *folder, "train", "--method", "moe-sam"]
    command += ["--preset", options.preset, "--data", options.train, "--name", f"ablation-{name}"]
    command += ["--steps", str(options.steps), *sets]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return f"exit code {done.returncode}"
    validation = json.loads(done.stdout)["validation"]
    return "not validated" if validation is None else f"{100 * validation['mean_dice']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=7, help="classes; MMWHS has 7")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--preset", default=None, help="default: moe-sam-mmwhs, with --train moe-sam-tiny")
    parser.add_argument("--train", metavar="DATA", help="a dataset of the workspace: train every row shortly")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], help="as in medmoe train")
    parser.add_argument("--workspace")
    options = parser.parse_args()
    options.preset = options.preset or ("moe-sam-tiny" if options.train else "moe-sam-mmwhs")
    measured = f"  Dice after {options.steps} steps" if options.train else ""
    print(f"{options.preset}, {options.size} x {options.size}, {options.labels} classes")
    print(f"{'table, row':24s} {'all M':>8s} {'trained M':>10s}  paper's Dice{measured}")
    for row in ROWS:
        total, trainable = parameters(row, preset=options.preset, size=options.size, labels=options.labels)
        line = f"{row.name:24s} {total / 1e6:8.2f} {trainable / 1e6:10.2f}  {row.paper:12.2f}"
        print(f"{line}  {train(row, options)}" if options.train else line, flush=True)


if __name__ == "__main__":
    main()
