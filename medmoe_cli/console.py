"""The only user of rich: results on stdout, the log on stderr, progress where someone watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import MedMoEError, ProblemList

# Where nobody watches a bar: a line per case, but not a flood of fast ones, and a heartbeat inside long ones.
_FEW = 20
_CASE_S = 2.0
_HEARTBEAT_S = 30.0
_PIPE_WIDTH = 200


class Console:
    """Draws tables, progress, errors and the next command; implements core.base.progress.Reporter.

    With `json_mode`, stdout carries exactly one JSON value and everything else goes to stderr.
    """

    def __init__(self, *, verbosity: int = 0, json_mode: bool = False, color: bool = True) -> None:
        self.verbosity, self.json_mode = verbosity, json_mode
        # A pipe has no width: tables get all they need there instead of folding at 80.
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        self._out = RichConsole(no_color=not color, highlight=False, soft_wrap=True, width=width)
        self._err = RichConsole(stderr=True, no_color=not color, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task_name, self._done = "", 0
        self._total: int | None = None
        self._started = self._last_line = 0.0

    # Results -----------------------------------------------------------------------------------------------------

    def json(self, value: Any) -> None:
        """Print a value as strict JSON, only when `--json` was given."""
        if self.json_mode:
            sys.stdout.write(jsonio.dumps(value) + "\n")

    def print(self, text: str) -> None:
        """A line of the result (silent with `--json`)."""
        if not self.json_mode:
            self._out.print(text, markup=False)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str | None = None
    ) -> None:
        """A table of the result (silent with `--json`). Numbers are right-aligned."""
        if self.json_mode:
            return
        table = Table(title=title or None, caption=caption, title_justify="left", caption_justify="left")
        for position, column in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[position]) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._out.print(table, soft_wrap=False)

    def next_command(self, command: str) -> None:
        """Every verb ends with the next command to type."""
        if self.verbosity >= 0:
            self._err.print(f"next: {command}", markup=False, style="bold")

    def error(self, error: MedMoEError) -> None:
        """One line per problem on stderr."""
        problems = error.problems if isinstance(error, ProblemList) else (error,)
        for problem in problems:
            self._err.print(f"error: {problem.line()}", markup=False, style="red")

    # Reporter ----------------------------------------------------------------------------------------------------

    def start(self, task: str, total: int | None) -> None:
        """Begin a progress bar on a terminal, plain lines elsewhere."""
        self.finish()
        self._task_name, self._total, self._done = task, total, 0
        self._started = self._last_line = time.monotonic()
        if self.verbosity < 0:
            return
        if self._err.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self._err,
                transient=True,
            )
            self._progress.add_task(task, total=total, detail="")
            self._progress.start()

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        """One step done."""
        self._done += 1
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], advance=1, detail=detail or item)
            if status == "failed":
                self._err.print(f"failed {item}: {detail}", markup=False, style="red")
            return
        now = time.monotonic()
        few = self._total is not None and self._total <= _FEW
        last = self._done == self._total
        slow = now - self._last_line > (_CASE_S if self._total is not None else _HEARTBEAT_S)
        if self.verbosity >= 0 and (few or last or slow or status == "failed"):
            self._last_line = now
            self._line(f"{item} {status}{' ' + detail if detail else ''}", now)

    def update(self, detail: str) -> None:
        """A heartbeat inside a step."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], detail=detail)
            return
        now = time.monotonic()
        if self.verbosity >= 0 and now - self._last_line > _HEARTBEAT_S:
            self._last_line = now
            self._line(detail, now)

    def finish(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def info(self, message: str) -> None:
        """A log line (not with -q)."""
        if self.verbosity >= 0:
            self._err.print(message, markup=False)

    def debug(self, message: str) -> None:
        """A log line for -v."""
        if self.verbosity > 0:
            self._err.print(message, markup=False, style="dim")

    def warn(self, message: str) -> None:
        """A warning."""
        self._err.print(f"warning: {message}", markup=False, style="yellow")

    def _line(self, text: str, now: float) -> None:
        count = f"[{self._done}/{self._total}]" if self._total else f"[{self._done}]"
        self._err.print(f"{self._task_name} {count} {text} {now - self._started:.1f}s", markup=False)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1000 or (value and abs(value) < 0.001) else f"{value:.3f}"
    return str(value)
