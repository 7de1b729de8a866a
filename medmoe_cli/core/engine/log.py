"""log.jsonl: one strict JSON object per line, for steps and for epochs.

What depends on the machine (times, memory) stands under the key `machine`; all the rest of a line is the same in two
runs of equal seed, interrupted or not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ResourceError


class RunLog:
    """Appends lines to `path`; `cut` takes it back to where a checkpoint was made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        line = (jsonio.dumps(record, indent=None) + "\n").encode()
        before = self.size
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            if self.size > before:
                os.truncate(self.path, before)
            raise ResourceError(
                "cannot write the log",
                where=self.path,
                why=error.strerror or str(error),
                fix="free some disk space, then resume",
            ) from error

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def sync(self) -> int:
        """Make what is written last through a crash; return the size."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return self.size

    def cut(self, size: int) -> None:
        """Forget what came after a checkpoint: those steps will be made again."""
        if self.size > size:
            os.truncate(self.path, size)
