"""File names of datasets: endings, junk, case ids and channel numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ENDINGS = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
)
"""Endings of images and labels; longer ones first."""

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
"""Endings of files whose colour channels share one file."""

_JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def is_junk(path: Path) -> bool:
    """True for what operating systems and tools leave behind: hidden and AppleDouble files, `__MACOSX`."""
    return path.name.startswith(".") or path.name.lower() in _JUNK_NAMES


def ending_of(name: str) -> str | None:
    """The image ending of a file name, None for other files."""
    lowered = name.lower()
    return next((ending for ending in ENDINGS if lowered.endswith(ending)), None)


def stem_of(name: str) -> str:
    """The file name without its image ending (or without its last suffix)."""
    ending = ending_of(name)
    return name[: -len(ending)] if ending else Path(name).stem


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
