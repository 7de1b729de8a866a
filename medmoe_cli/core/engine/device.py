"""Which device and precision to run on, from what the user asked for and what the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from medmoe_cli.core.base.errors import ConfigError

Precision = Literal["32", "bf16", "16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """A resolved device and precision."""

    device: torch.device
    precision: Precision

    def autocast(self) -> torch.autocast:
        """A context for forward passes in the chosen precision."""
        dtype = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "32")


def resolve_compute(device: str, precision: str) -> Compute:
    """Resolve `--device` and `--precision`.

    Raises:
        ConfigError: an unknown device, a GPU that is not there, or a precision it cannot do.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in {"cpu", "cuda"} or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"unknown device '{device}'", where="--device", fix="use auto, cpu, cuda or cuda:1")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("no CUDA device", where="--device", why="torch sees none", fix="use --device cpu")
        if index and int(index) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ConfigError(
                f"no device '{device}'",
                where="--device",
                why=f"torch sees {count}",
                fix=f"use cuda:0 to cuda:{count - 1}",
            )
    chosen = torch.device(kind, int(index)) if index else torch.device(kind)
    if precision == "auto":
        precision = "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "32"
    if precision == "16" and kind == "cpu":
        raise ConfigError("precision 16 needs a GPU", where="--precision", fix="use --precision 32 or bf16")
    if precision not in {"32", "bf16", "16"}:
        raise ConfigError(f"unknown precision '{precision}'", where="--precision", fix="use auto, 32, bf16 or 16")
    resolved: Precision = "32" if precision == "32" else "bf16" if precision == "bf16" else "16"
    return Compute(device=chosen, precision=resolved)
