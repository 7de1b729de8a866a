"""How workflows tell what they are doing; the command line draws it, a library user may ignore it."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives progress. Implementations must be cheap and must not raise."""

    def start(self, task: str, total: int | None) -> None:
        """A task with `total` steps begins (None: unknown)."""

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        """One step is done: `item` is a case or a step; `status` is ok, cached, skipped or failed."""

    def update(self, detail: str) -> None:
        """A heartbeat inside a step, for instance the loss."""

    def finish(self) -> None:
        """The task ended."""

    def info(self, message: str) -> None:
        """A line for the log."""

    def warn(self, message: str) -> None:
        """A warning for the log and run.json."""


class Silent:
    """A Reporter that keeps the warnings and prints nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def start(self, task: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        """Ignore."""

    def update(self, detail: str) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def info(self, message: str) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Keep."""
        self.warnings.append(message)
