"""What this machine offers and what would stop medmoe from working on it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata

import psutil

import medmoe_cli
from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.presets import preset_names

_PACKAGES = (
    "torch",
    "torchvision",
    "segment-anything",
    "transformers",
    "lightning-fabric",
    "numpy",
    "scipy",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "batchgenerators",
    "blosc2",
    "safetensors",
)
_LOW_DISK_GB = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """The doctor's findings; `problems` stop medmoe, `advice` does not."""

    medmoe: str
    python: str
    platform: str
    cpu_cores: int
    memory_gb: float
    devices: tuple[str, ...]
    packages: dict[str, str]
    workspace: str
    workspace_origin: str
    workspace_free_gb: float
    presets: int
    backbones: tuple[str, ...]
    problems: tuple[str, ...]
    advice: tuple[str, ...]


def run_doctor(workspace: Workspace) -> Diagnosis:
    """Look at the machine; the only thing written is a probe in the workspace, removed again."""
    problems: list[str] = []
    advice: list[str] = []
    packages: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            problems.append(f"{package} is not installed. fix: pip install medmoe")
    import torch

    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if not devices:
        advice.append("no GPU: training runs on the CPU; use a *-tiny preset")
    nearest = workspace.root
    while not nearest.exists():
        nearest = nearest.parent
    free_gb = shutil.disk_usage(nearest).free / 1e9
    if free_gb < _LOW_DISK_GB:
        advice.append(f"only {free_gb:.1f} GB free under {nearest}")
    try:
        probe = atomic.write_text(nearest / f".medmoe-probe-{os.getpid()}", "probe")
        probe.unlink()
    except ResourceError as error:
        problems.append(error.line())
    models = workspace.models
    backbones = tuple(sorted(folder.name for folder in models.glob("*") if (folder / "model.json").is_file()))
    if not backbones:
        advice.append("no backbone weights yet: medmoe models add sam-vit-b sam_vit_b_01ec64.pth")
    names = preset_names()
    if not names:
        problems.append("no presets are installed. fix: reinstall medmoe")
    return Diagnosis(
        medmoe=medmoe_cli.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        devices=tuple(devices) or ("cpu",),
        packages=packages,
        workspace=str(workspace.root),
        workspace_origin=workspace.origin,
        workspace_free_gb=round(free_gb, 1),
        presets=len(names),
        backbones=backbones,
        problems=tuple(problems),
        advice=tuple(advice),
    )
