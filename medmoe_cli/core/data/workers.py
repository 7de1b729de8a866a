"""The same function on many cases, in worker processes, results in the order of the cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from medmoe_cli.core.base.errors import ResourceError

Item = TypeVar("Item")
Result = TypeVar("Result")

_FEW = 8
"""Fewer cases than this are not worth the start of worker processes."""


def worker_count(wanted: int | None, num_items: int) -> int:
    """`wanted`, else one per core up to eight, and a single one for a few cases."""
    if wanted is not None:
        return max(1, min(wanted, num_items))
    return 1 if num_items < _FEW else min(os.cpu_count() or 1, 8)


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    name: Callable[[Item], str],
) -> Iterator[Result]:
    """Apply a picklable function to every item; one worker runs in this process.

    Args:
        function: raises nothing that is one case's fault: it returns such failures.
        items: what to work on.
        workers: processes.
        name: an item's case id, for the error.

    Raises:
        ResourceError: a worker was killed; the cases that were being worked on are named.
    """
    if workers == 1:
        yield from map(function, items)
        return
    done = 0
    try:
        for result in Parallel(n_jobs=workers, return_as="generator")(delayed(function)(item) for item in items):
            done += 1
            yield result
    except (TerminatedWorkerError, BrokenProcessPool) as error:
        suspects = ", ".join(name(item) for item in items[done : done + workers])
        raise ResourceError(
            "a worker process died",
            where=f"one of the cases {suspects}",
            why="killed (often out of memory)",
            fix=f"run the same command with --workers {max(1, workers // 2)}",
        ) from error
