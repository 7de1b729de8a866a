"""Values that are not finite stop a training before they reach a weight; the message names the step and the cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn

from medmoe_cli.core.base.errors import ConfigError, DataError

_MAX_SKIPPED = 20  # float16 updates in a row that the loss scaler may leave out


def check_inputs(not_finite: Sequence[str], *, step: int) -> None:
    """Stop at an image with NaN or Inf.

    Raises:
        DataError: with the step and the cases.
    """
    if not_finite:
        raise DataError(
            "image is not finite",
            where=", ".join(not_finite),
            why=f"NaN or Inf reached training step {step}",
            fix="medmoe check DATA, correct the case, then --resume",
        )


def check_losses(losses: Mapping[str, float], *, step: int, keys: Sequence[str], module: nn.Module) -> None:
    """Stop at a loss that is not finite.

    Raises:
        ConfigError: with the step, the cases, the loss and, when a weight is the cause, its name.
    """
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        weight = first_bad_weight(module)
        cause = f"weight '{weight}' is not finite" if weight else f"loss {', '.join(bad)} is not finite"
        raise _diverged(cause, step=step, keys=keys)


def check_gradient(norm: float, *, step: int, keys: Sequence[str], module: nn.Module) -> None:
    """Stop at a gradient that is not finite.

    Raises:
        ConfigError: with the step, the cases and a parameter concerned.
    """
    if math.isfinite(norm):
        return
    name = next(
        (
            name
            for name, parameter in module.named_parameters()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ),
        "all",
    )
    raise _diverged(f"the gradient of '{name}' is not finite", step=step, keys=keys)


def check_skipped(skipped: int, *, step: int, keys: Sequence[str]) -> None:
    """Stop when the loss scaler left out too many float16 updates in a row.

    Raises:
        ConfigError: with the step and the cases.
    """
    if skipped > _MAX_SKIPPED:
        raise _diverged(f"{skipped} float16 updates in a row had gradients that are not finite", step=step, keys=keys)


def check_weights(module: nn.Module, *, step: int) -> None:
    """Never save what is not finite.

    Raises:
        ConfigError: with the step and the weight.
    """
    name = first_bad_weight(module)
    if name is not None:
        raise _diverged(f"weight '{name}' is not finite", step=step, keys=("none: between two steps",))


def first_bad_weight(module: nn.Module) -> str | None:
    """Name of the first parameter or buffer with NaN or Inf."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def _diverged(cause: str, *, step: int, keys: Sequence[str]) -> ConfigError:
    return ConfigError(
        "training diverged",
        where=f"step {step}, cases {', '.join(keys)}",
        why=f"{cause}; nothing was updated and the last checkpoint is good",
        fix="lower train.learning_rate or use --precision 32",
    )
