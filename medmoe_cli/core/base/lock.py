"""One writer per folder: an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmoe_cli.core.base.errors import ResourceError


@contextmanager
def exclusive(folder: Path, *, name: str = "lock") -> Iterator[None]:
    """Hold `folder/.NAME` while working in `folder`, which is made when missing.

    Raises:
        ResourceError: another living process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".{name}").open("a+")
    except OSError as error:
        raise ResourceError(
            "cannot write", where=folder, why=error.strerror or str(error), fix="choose another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            raise ResourceError(
                "another medmoe is at work",
                where=folder,
                why=f"process {holder} holds its lock" if holder else "its lock is held",
                fix="wait for it to end, or choose another folder",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
