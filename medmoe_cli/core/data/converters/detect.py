"""What a source is: the formats that fit it, and the folder inside it where its layout begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.data.converters.format import Format
from medmoe_cli.core.data.converters.registry import fitting
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.formats import ending_of, is_junk

_DEPTH = 5
"""Folders that hold nothing but one folder are looked through up to this deep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detected:
    """What a source was found to be.

    Attributes:
        format: the one that fits.
        root: the folder where its layout begins.
        why: what was found, in words.
        others: less particular formats that fit as well.
    """

    format: Format
    root: Path
    why: str
    others: tuple[str, ...]


def detect(source: Path) -> Detected:
    """The one format that a folder is of.

    Raises:
        DataError: it looks like no known format.
        ConfigError: several formats fit equally well; they are named.
    """
    levels = _levels(source)
    plain: Detected | None = None
    for level in levels:
        found = fitting(level)
        if not found:
            continue
        best = [known for known in found if known.particular == found[0].particular]
        others = tuple(known.name for known in found[len(best) :])
        if len(best) > 1:
            names = [known.name for known in best]
            why = "; ".join(f"{known.name}: {known.signs or known.description}" for known in best)
            fix = f"name one: --format {' or --format '.join(names)}"
            raise ConfigError(f"{some(names, 6)} all fit", where=level, why=why, fix=fix)
        detected = Detected(format=best[0], root=level, why=best[0].signs or best[0].description, others=others)
        if best[0].particular > 0:
            return detected
        plain = plain or detected
    if plain is None:
        raise DataError(
            "the source looks like no known format",
            where=source,
            why=f"it holds {_content(levels[-1])}",
            fix="medmoe convert --list names the formats, and where to get them",
        )
    return plain


def root_of(source: Path, known: Format) -> Path:
    """Where the layout of a format begins: the source, or the folder inside it that is all that it holds."""
    return next((level for level in _levels(source) if known.looks_like(level)), source)


def _levels(source: Path) -> list[Path]:
    """The source, then the folders that are the only one inside, without images or a dataset.json beside them."""
    levels = [source]
    while len(levels) < _DEPTH:
        entries = [path for path in levels[-1].iterdir() if not is_junk(path)]
        folders = [path for path in entries if path.is_dir()]
        files = [path for path in entries if not path.is_dir()]
        if len(folders) != 1 or any(ending_of(path) or path.name == "dataset.json" for path in files):
            break
        levels.append(folders[0])
    return levels


def _content(folder: Path) -> str:
    entries = sorted(path for path in folder.iterdir() if not is_junk(path))
    return some((f"{path.name}/" if path.is_dir() else path.name for path in entries), 5) or "nothing"
