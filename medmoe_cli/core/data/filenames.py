"""File names of datasets: channel numbers and folder listings without junk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from medmoe_cli.core.imaging.formats import PICTURES, TIFF, is_junk

PICTURE_ENDINGS = frozenset({*PICTURES, *TIFF})
"""Endings of files whose colour channels share one file."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def split_channel(stem: str) -> tuple[str, int] | None:
    """('case', 1) from 'case_0001'; None without a four-digit channel number."""
    match = _CHANNEL.fullmatch(stem)
    return (match[1], int(match[2])) if match else None


def files_in(folder: Path) -> Iterator[Path]:
    """Files directly in `folder`, sorted by name, without junk; none when the folder is absent."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not is_junk(path) and path.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """Files in `folder` and its sub-folders, sorted by path, without junk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(is_junk(part) for part in [path, *path.relative_to(folder).parents][:-1]):
            yield path


def some(names: Iterable[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
