"""CPU-seconds of a command and of everything it starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What a command took: user and system time of it and its descendants, and time by the clock."""

    cpu_s: float
    wall_s: float


def run_measured(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str]) -> Spent:
    """Run a command to its end, its output in `log`.

    Workers that the command leaves behind become children of this process (Linux), so their time is counted as well.

    Raises:
        SystemExit: the command failed (with the end of its output), or left a process behind that does not end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    this = psutil.Process()
    others = {child.pid for child in this.children()}
    before, began = _children_s(), time.perf_counter()
    with _adopting_orphans(), log.open("w") as output:
        code = subprocess.run([str(part) for part in command], stdout=output, stderr=output, env=env).returncode
        wall_s = time.perf_counter() - began
        _wait_for([child.pid for child in this.children() if child.pid not in others], command)
    if code:
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {code}:\n{log.read_text()[-3000:]}")
    return Spent(cpu_s=_children_s() - before, wall_s=wall_s)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _wait_for(orphans: Sequence[int], command: Sequence[str | Path]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    for pid in orphans:
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(map(str, command))}\nleft process {pid} running: its time is not known")
            time.sleep(0.05)
