"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from medmoe_cli.core.config.sections import TrainConfig

_POLY_POWER = 0.9


def rate_factor(config: TrainConfig, *, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What the base learning rate is multiplied with at the update number `step` (from 0) of a stage.

    The schedule counts within the stage: it restarts when a new stage begins.

    Args:
        config: schedule, milestones (epochs after which `multistep` multiplies by gamma), warm-up steps.
        step: updates already made in this stage.
        total_steps: updates of this stage.
        steps_per_epoch: updates per epoch.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "multistep":
        epoch = step // steps_per_epoch
        return warm * float(config.gamma ** sum(epoch >= milestone for milestone in config.milestones))
    if config.schedule == "constant":
        return warm
    # After the warm-up the decay runs over the remaining steps, from one to (nearly) zero.
    remaining = max(1, total_steps - config.warmup_steps)
    progress = min(1.0, max(0, step - config.warmup_steps) / remaining)
    if config.schedule == "poly":
        return warm * float((1 - progress) ** _POLY_POWER)
    return warm * 0.5 * (1 + math.cos(math.pi * progress))


def depends_on_length(config: TrainConfig) -> bool:
    """True when more epochs would have changed the rates already used, so a run cannot simply be prolonged."""
    return config.schedule in {"poly", "cosine"}
