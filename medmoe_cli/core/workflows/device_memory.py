"""Memory of the device that will train, found without importing torch."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

_MIB = 1 << 20
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """Bytes of memory, and whether they are a GPU's."""

    num_bytes: int
    cuda: bool


def device_memory(device: str = "auto") -> DeviceMemory:
    """Memory of `--device`: the smallest GPU's for cuda and for auto where there is one, else the machine's."""
    if device != "cpu":
        gpus = _gpus()
        if gpus:
            _, _, index = device.partition(":")
            chosen = gpus[int(index)] if index.isdigit() and int(index) < len(gpus) else min(gpus)
            return DeviceMemory(num_bytes=chosen, cuda=True)
    return DeviceMemory(num_bytes=_machine(), cuda=False)


def _gpus() -> list[int]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * _MIB for line in answer.stdout.split("\n") if line.strip().isdigit()]


def _machine() -> int:
    total = int(psutil.virtual_memory().total)
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
