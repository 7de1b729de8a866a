"""What must survive besides tensors: where a training stands, and running means that a resume continues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medmoe_cli.core.base.errors import CheckpointError

SCHEMA_VERSION = 1


@dataclass(kw_only=True, slots=True)
class Meter:
    """Means of named values, kept as sums in float64: exact through JSON, so a resumed mean equals the original."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    loads: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], loads: Mapping[str, Iterable[float]]) -> None:
        """Take one step's values, and the items that each expert received, by place."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        for place, load in loads.items():
            new = [float(count) for count in load]
            old = self.loads.get(place)
            self.loads[place] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

    def means(self) -> dict[str, float]:
        """The mean of each value."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def shares(self) -> dict[str, list[float]]:
        """By place, each expert's share of the items routed."""
        return {place: [round(count / max(1.0, sum(load)), 4) for count in load] for place, load in self.loads.items()}

    def clear(self) -> None:
        """Start anew."""
        self.sums.clear()
        self.counts.clear()
        self.loads.clear()


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a training stands; `state.json`.

    Attributes:
        step: updates made.
        epochs_closed: epochs whose validation and log line are done.
        best_step: the checkpoint with the best mean validation Dice; None before the first validation.
        best_dice: its Dice.
        seconds: training time so far, resumed parts included.
        log_bytes: length of log.jsonl when this was saved; a resume cuts the file there.
        finished: the last step is done and validated.
        window: means since the last log line.
        epoch: means since the epoch began.
        skipped_updates: float16 updates that the loss scaler left out in a row.
        scaler: the loss scaler's own values (float16 only).
    """

    step: int = 0
    epochs_closed: int = 0
    best_step: int | None = None
    best_dice: float | None = None
    seconds: float = 0.0
    log_bytes: int = 0
    finished: bool = False
    window: Meter = field(default_factory=Meter)
    epoch: Meter = field(default_factory=Meter)
    skipped_updates: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> TrainState:
        """Read back what `jsonio` wrote.

        Raises:
            CheckpointError: the value is not of this schema.
        """
        try:
            plain = dict(value)
            return cls(**{**plain, "window": Meter(**plain["window"]), "epoch": Meter(**plain["epoch"])})
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                "cannot read the training state", why=str(error), fix="resume with the version that wrote it"
            ) from error


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The keys in which two runs' identities differ, with both values."""
    absent = "absent"
    return [
        f"{key}: {saved.get(key, absent)} then, {now.get(key, absent)} now"
        for key in sorted({*saved, *now})
        if saved.get(key, absent) != now.get(key, absent)
    ]
