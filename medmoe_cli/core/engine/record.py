"""The lines of log.jsonl: one per LOG_EVERY steps, one per epoch."""

from __future__ import annotations

import time

import psutil

from medmoe_cli.core.engine.loader import Loader
from medmoe_cli.core.engine.log import RunLog
from medmoe_cli.core.engine.state import TrainState
from medmoe_cli.core.engine.validate import Validation

LOG_EVERY = 10


class Record:
    """Writes the lines; on ranks other than the first it writes nothing."""

    def __init__(self, log: RunLog, *, writes: bool) -> None:
        self.log, self._writes = log, writes
        self._began, self._step, self._waited_s = time.monotonic(), 0, 0.0

    def restart(self, step: int) -> None:
        """Speed is measured from here."""
        self._began, self._step, self._waited_s = time.monotonic(), step, 0.0

    def steps(self, state: TrainState, *, epoch: int, stage: str, lr: float, loader: Loader) -> None:
        """A line with the means since the last one."""
        now = time.monotonic()
        elapsed = max(now - self._began, 1e-9)
        machine = {
            "steps_per_s": round((state.step - self._step) / elapsed, 3),
            "wait_percent": round(100 * (loader.waited_s - self._waited_s) / elapsed, 1),
            "rss_mb": rss_mb(),
        }
        self._line(
            {
                "kind": "step",
                "step": state.step,
                "epoch": epoch,
                "stage": stage,
                "losses": state.window.means(),
                "lr": lr,
                "routing": state.window.shares(),
                "machine": machine,
            }
        )
        self._began, self._step, self._waited_s = now, state.step, loader.waited_s

    def epoch(
        self, state: TrainState, *, epoch: int, stage: str, lr: float, validation: Validation | None, best: bool
    ) -> None:
        """A line with the epoch's means and its validation; `machine.seconds` is the training time so far."""
        self._line(
            {
                "kind": "epoch",
                "step": state.step,
                "epoch": epoch,
                "stage": stage,
                "losses": state.epoch.means(),
                "lr": lr,
                "routing": state.epoch.shares(),
                "validation": validation,
                "best": best,
                "machine": {"seconds": round(state.seconds, 3)},
            }
        )

    def _line(self, record: dict[str, object]) -> None:
        if self._writes:
            self.log.append(record)


def rss_mb() -> int:
    """Memory of this process and its workers, MiB."""
    process = psutil.Process()
    total = int(process.memory_info().rss)
    for child in process.children():
        try:
            total += int(child.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return round(total / 2**20)
