"""sha256 of files, folders and values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medmoe_cli.core.base.jsonio import dumps

_BLOCK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Hex digest over several files' bytes, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()


def value_sha256(value: Any) -> str:
    """Hex digest of a value through its strict JSON; equal values give equal digests across runs."""
    return hashlib.sha256(dumps(_sorted(value), indent=None).encode()).hexdigest()


def _sorted(value: Any) -> Any:
    from medmoe_cli.core.base.jsonio import plain

    def order(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: order(item[key]) for key in sorted(item)}
        if isinstance(item, list):
            return [order(part) for part in item]
        return item

    return order(plain(value))
