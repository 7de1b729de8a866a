"""Files of a release sorted by what they are; two files that claim one place are refused, all of them at once."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Generic, TypeVar

from medmoe_cli.core.base.errors import DataError, raise_all

Key = TypeVar("Key", bound=Hashable)


class OneOf(Generic[Key]):
    """Collects one file per key, for instance per case and contrast."""

    def __init__(self) -> None:
        self.files: dict[Key, Path] = {}
        self._problems: list[DataError] = []

    def add(self, key: Key, path: Path) -> None:
        """Take a file in; a second one of the same key is a problem."""
        first = self.files.setdefault(key, path)
        if first != path:
            name = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
            why = f"{first} and {path}"
            self._problems.append(
                DataError(f"two files of {name}", where=path.parent, why=why, fix="remove one of them")
            )

    def require_single(self) -> None:
        """Raise what `add` found.

        Raises:
            DataError: keys with several files.
        """
        raise_all(self._problems)
