"""What a large scan costs: peak memory and time of `medmoe predict` on a synthetic 512 x 512 x 600 CT.

    python benchmarks/volume_memory.py [--shape 512 512 600] [--spacing 0.8 0.8 1.0] [--threads 2] [--folder DIR]

Two predictions by untrained models of the preset sam-med3d-moe-tiny, each in a process of its own: (a) one box prompt,
asked of a general model in one window; (b) nothing but the scan, asked of an expert in windows that slide over all of
it. Printed: the largest resident memory of the process, its wall clock and CPU seconds, windows and voxels. What the
masks show means nothing; what they cost is that of trained models.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.engine.windows import group_windows
from medmoe_cli.core.models.registry import method
from medmoe_cli.core.workflows.configure import choose_preset, configure
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, save_model

METHOD, PRESET = "sam-med3d-moe", "sam-med3d-moe-tiny"
SEED = 0
LIMIT_GIB = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one process."""

    gib: float
    wall_s: float
    cpu_s: float


def main() -> None:
    """Write the scan and the models, predict, and print one line per prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, default=[512, 512, 600])
    parser.add_argument("--spacing", nargs=3, type=float, default=[0.8, 0.8, 1.0], help="mm along x, y, z")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="kept afterwards; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.folder or Path(temporary), arguments.shape, arguments.spacing, arguments.threads)


def measure(folder: Path, shape: list[int], spacing: list[float], threads: int) -> None:
    """Both predictions."""
    scan = write_scan(folder / "scan.nii", shape, spacing)
    workspace = Workspace(root=folder / "workspace", origin="benchmark")
    plan = make_models(workspace)
    x, y, z = (
        round(length * step / target)
        for length, step, target in zip(shape, spacing, plan.spacing_mm or (), strict=True)
    )
    (group,) = group_windows([None], (z, y, x), plan.input_size)
    print(
        f"{'x'.join(map(str, shape))} int16 of {' x '.join(map(str, spacing))} mm, {x}x{y}x{z} voxels for the network"
    )
    box = [part for bound in (0.42, 0.5) for part in (int(length * bound) for length in shape)]
    prompts = folder / "prompts.json"
    entry = {"label": "organ", "box": box}
    prompts.write_text(json.dumps({"schema": 1, "space": "voxel", "axes": "xyz", "cases": {"scan": [entry]}}))
    common = ("--workspace", workspace.root, "predict", "-i", scan, "-d", "cpu", "--overwrite")
    for name, windows, options in (
        ("one box prompt", 1, ("-m", "general", "-o", folder / "boxed", "--prompts", prompts)),
        ("nothing but the scan", len(group.windows), ("-m", "expert", "-o", folder / "found")),
    ):
        cost = run([*common, *options], threads)
        verdict = "within" if cost.gib <= LIMIT_GIB else "ABOVE"
        print(
            f"{name}: {cost.gib:.2f} GiB ({verdict} {LIMIT_GIB:g}), {cost.wall_s:.0f} s, {cost.cpu_s:.0f} CPU s, "
            f"{windows} window{'s' if windows > 1 else ''}",
            flush=True,
        )


def write_scan(path: Path, shape: list[int], spacing: list[float]) -> Path:
    """Air around a body of soft tissue with noise, slice by slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    rows = (np.arange(shape[0])[:, None] / shape[0] - 0.5) ** 2 + (np.arange(shape[1]) / shape[1] - 0.5) ** 2
    random = np.random.default_rng(SEED)
    with path.open("wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for _ in range(shape[2]):
            plane = np.where(rows < 0.16, random.normal(40, 20, rows.shape), -1000).astype(np.int16)
            file.write(plane.tobytes(order="F"))
    return path


def make_models(workspace: Workspace) -> Plan:
    """An untrained general model and an expert, as shared folders."""
    found = method(METHOD)
    plan = None
    for name, assignments in (("general", ()), ("expert", ("model.role=expert", "model.general=general"))):
        resolved = configure(choose_preset(workspace, METHOD, PRESET), assignments=assignments, flags={})
        plan = Plan(
            dataset="synthetic",
            method=METHOD,
            preset=PRESET,
            dims=3,
            slice_axis=2,
            input_size=resolved.plan.input_size or 64,
            spacing_mm=(1.5, 1.5, 1.5),
            channels=(ChannelPlan(name="CT", normalization="zscore", low=-1000.0, high=1000.0),),
            labels={"organ": 1},
            class_prompts={},
            binary=True,
            mirror_axes=(),
            batch_size=1,
            num_experts=1,
            fingerprint_sha256="",
            reasons={},
        )
        target = workspace.models / name
        if target.exists():
            continue
        segmenter = found.build(resolved.model, plan, backbone=None)
        loaded = LoadedModel(
            segmenter=segmenter.eval(),
            plan=plan,
            card=found.card,
            config=resolved.model,
            predict=PredictConfig(),
            class_names=plan.class_names,
            source=target,
            sha256="",
        )
        save_model(loaded, target)
    assert plan is not None
    return plan


def run(arguments: list[object], threads: int) -> Cost:
    """`medmoe` in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "medmoe_cli", "-q", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"medmoe ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(
        gib=usage.ru_maxrss / 2**20, wall_s=time.perf_counter() - started, cpu_s=usage.ru_utime + usage.ru_stime
    )


if __name__ == "__main__":
    main()
