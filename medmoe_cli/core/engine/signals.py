"""SIGINT and SIGTERM become a flag that loops look at between steps; a second one ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from medmoe_cli.core.base.errors import InterruptedRun

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """A context manager that catches SIGINT and SIGTERM while a training runs.

    The handler only takes note: the state is saved by the loop, at a place where it is whole. Former handlers are
    restored on leaving, whatever happened. Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._former: dict[int, object] = {}
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former.clear()

    @property
    def wanted(self) -> bool:
        """True once a signal came."""
        return self.signal_number is not None

    def raise_interrupted(self, *, saved: str, fix: str) -> None:
        """End the run with exit code 128 + signal.

        Raises:
            InterruptedRun: always.
        """
        number = self.signal_number if self.signal_number is not None else signal.SIGINT
        raise InterruptedRun(
            f"interrupted by {signal.Signals(number).name}, {saved}", signal_number=int(number), fix=fix
        )

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A forked worker that has not set its own handlers yet: die as it would have without us.
            os._exit(128 + number)
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number


def leave_to_parent() -> None:
    """In a loader's worker: a signal to the whole process group is the parent's to handle, who needs its workers.

    A worker ends when its parent asks for nothing more or is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
