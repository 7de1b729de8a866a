"""Drive the executable as a user would, in a process of its own or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """The lines that report an error."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def medmoe(*arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = 280) -> Ran:
    """Run `medmoe` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "medmoe_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=os.environ.get("MEDMOE_HOME"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def medmoe_here(*arguments: str | Path) -> Ran:
    """Run `medmoe` in this process: no start-up cost, the same parsing and error mapping."""
    from medmoe_cli.app import run

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def assert_one_line_error(ran: Ran, code: int, *words: str) -> None:
    """The contract of a failure: the code, one line that starts with 'error:', no traceback, the words in it."""
    assert ran.code == code, (ran.code, ran.out[-2000:], ran.err[-2000:])
    assert "Traceback" not in ran.err
    assert len(ran.error_lines) == 1, ran.err
    for word in words:
        assert word in ran.error_lines[0], (word, ran.error_lines[0])


def lines(text: str) -> Sequence[str]:
    """Non-empty lines."""
    return [line for line in text.splitlines() if line.strip()]
