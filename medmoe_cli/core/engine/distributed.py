"""Lightning Fabric for device, precision and several devices; torchrun and SLURM environments are honoured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from medmoe_cli.core.base.errors import ConfigError, ResourceError
from medmoe_cli.core.engine.device import Compute, Precision

_PRECISION: Mapping[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}
# The other devices wait while the first one preprocesses and validates.
_PATIENCE = timedelta(hours=12)


def world_size(num_devices: int) -> int:
    """Processes that train together: torchrun's or SLURM's number, else the number of devices asked for."""
    if "TORCHELASTIC_RUN_ID" in os.environ or "RANK" in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1"))
    if num_devices > 1 and "SLURM_NTASKS" in os.environ:
        return int(os.environ["SLURM_NTASKS"])
    return num_devices


def start_fabric(compute: Compute, *, num_devices: int) -> Fabric:
    """Start the processes and return this one's Fabric.

    With several devices and no launcher, the other processes run this same command again.

    Raises:
        ConfigError: more devices than there are, or one named device and several asked for.
    """
    kind = compute.device.type
    precision = _PRECISION[compute.precision]
    total = world_size(num_devices)
    if total == 1:
        devices = [compute.device.index] if ":" in str(compute.device) else 1
        fabric = Fabric(accelerator=kind, devices=devices, precision=precision)
        fabric.launch()
        return fabric
    if ":" in str(compute.device):
        raise ConfigError(
            "one device named and several asked for",
            where="--devices",
            why=f"--device {compute.device} with --devices {num_devices}",
            fix=f"use --device {kind} --devices {num_devices}",
        )
    if kind == "cuda" and num_devices > torch.cuda.device_count():
        raise ConfigError(
            "not enough GPUs",
            where="--devices",
            why=f"{num_devices} asked for, torch sees {torch.cuda.device_count()}",
            fix=f"use --devices {torch.cuda.device_count()}",
        )
    num_nodes = max(1, total // num_devices)
    # A mixture leaves experts unused in a step; their missing gradients must not stall the others.
    strategy = DDPStrategy(find_unused_parameters=True, timeout=_PATIENCE)
    fabric = Fabric(
        accelerator=kind,
        devices=num_devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
    )
    try:
        fabric.launch()
    except RuntimeError as error:
        raise ResourceError(
            "cannot start the processes", where="--devices", why=str(error), fix="train with --devices 1"
        ) from error
    return fabric
