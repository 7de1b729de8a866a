"""`--tau auto`: the threshold that serves all tasks best without forgetting the general model's.

Samples held out of the gate's training are asked once; from the general answer, the fused answer and the probability
of the best expert, the merged model at every threshold follows without asking again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medmoe_cli.core.config.merge_report import TauPoint

TOLERATED = 0.01  # Dice that the general model's tasks may lose
NEVER = 1.0  # above every probability: no expert ever joins
GRID = (*(round(0.05 * step, 2) for step in range(2, 20)), 0.97, 0.99)
_USUAL = 0.5  # paper 3.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One held-out query.

    Attributes:
        task: it belongs to.
        is_general: whether that task is the general model's own.
        share: probability of the best expert.
        general, fused: Dice without and with it.
    """

    task: int
    is_general: bool
    share: float
    general: float
    fused: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenTau:
    """The threshold, why, and what it was chosen from."""

    tau: float
    why: str
    curve: tuple[TauPoint, ...]


def choose_tau(seen: Sequence[Seen]) -> ChosenTau:
    """The threshold with the best mean Dice over tasks among those that forget at most `TOLERATED`.

    Of equals the one nearest the paper's 0.5. When all forget more, no expert may join.
    """
    curve = tuple(point(seen, tau) for tau in (*GRID, NEVER))
    allowed = [one for one in curve[:-1] if one.forgetting >= -TOLERATED]
    if not allowed:
        why = f"auto: at every threshold the general model's tasks lose more than {TOLERATED} Dice, so no expert joins"
        return ChosenTau(tau=NEVER, why=why, curve=curve)
    best = max(allowed, key=lambda one: (round(one.dice, 6), -abs(one.tau - _USUAL)))
    why = f"auto: best mean Dice {best.dice:.3f} on {len(seen)} held-out queries, forgetting {best.forgetting:+.3f}"
    return ChosenTau(tau=best.tau, why=why, curve=curve)


def point(seen: Sequence[Seen], tau: float) -> TauPoint:
    """The merged model at one threshold."""
    merged = {one: one.fused if one.share > tau else one.general for one in seen}
    general_tasks = [one for one in seen if one.is_general]
    return TauPoint(
        tau=tau,
        dice=_over_tasks((one.task, merged[one]) for one in seen),
        forgetting=_over_tasks((one.task, merged[one] - one.general) for one in general_tasks),
        opened=sum(one.share > tau for one in seen) / len(seen) if seen else 0.0,
    )


def _over_tasks(values: Iterable[tuple[int, float]]) -> float:
    """The mean over tasks of each task's mean: a task of many samples counts once."""
    by_task: dict[int, list[float]] = {}
    for task, value in values:
        by_task.setdefault(task, []).append(value)
    means = [sum(found) / len(found) for found in by_task.values()]
    return sum(means) / len(means) if means else 0.0
