"""Which cases are being worked on, so that a killed worker's case can be named by the process that survives it.

Each case leaves a note beside its output while it is in work. Notes are temporary files to `base.atomic`, so those of
dead processes are swept away at the next start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import ResourceError

_ENDING = ".in-work"


@contextmanager
def in_work(folder: Path, case: str) -> Iterator[None]:
    """Leave a note while the block runs; a kill leaves it behind."""
    note = atomic.temporary_sibling(folder / f"{case}{_ENDING}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        raise ResourceError(
            "cannot write",
            where=folder,
            why=error.strerror or str(error),
            fix="check the folder's permissions and the disk's free space",
        ) from error
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def left_behind(folder: Path) -> tuple[str, ...]:
    """The cases whose work was cut off."""
    notes = folder.glob(f"{atomic.TEMPORARY_PREFIX}*{_ENDING}")
    return tuple(sorted(note.name.split("-", 3)[3].removesuffix(_ENDING) for note in notes))
