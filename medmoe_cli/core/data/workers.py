"""The same function on many cases, in worker processes, results in the order of the cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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
    with TemporaryDirectory(prefix="medmoe-workers-") as folder:
        jobs = (delayed(_marked)(function, item, Path(folder) / str(index)) for index, item in enumerate(items))
        try:
            yield from Parallel(n_jobs=workers, batch_size=1, return_as="generator")(jobs)
        except (TerminatedWorkerError, BrokenProcessPool) as error:
            begun = sorted(int(mark.name) for mark in Path(folder).iterdir())
            raise ResourceError(
                "a worker process died",
                where=f"case {' or '.join(name(items[index]) for index in begun)}",
                why="killed (often out of memory)",
                fix=f"run the same command with --workers {max(1, workers // 2)}",
            ) from error


def _marked(function: Callable[[Item], Result], item: Item, mark: Path) -> Result:
    """Work under a mark: those that a killed pool leaves behind say which cases were being worked on."""
    mark.touch()
    try:
        return function(item)
    finally:
        mark.unlink(missing_ok=True)
