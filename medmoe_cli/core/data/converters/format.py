"""What a source format says of itself: its name, how it is recognised, which options it takes, who may use the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey

COMMON_OPTIONS = ("patient_regex", "modality", "channels")


class Surveyor(Protocol):
    """A converter's function: understands a source, writes nothing."""

    def __call__(self, source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
        """Understand `source`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One source format.

    Attributes:
        name: as typed after --format.
        description: one line for lists.
        modality: what it usually holds.
        options: names of the ConvertOptions it understands.
        looks_like: cheap test of a folder.
        survey: the converter.
        classes: what its label maps hold, in words; '' where that is the source's own.
        licence: of the data, 'unknown' included; '' for layouts that are no release.
        obtain: where a person gets the release by hand; '' for layouts that are no release.
        particular: how particular `looks_like` is; where several fit, the highest is named.
        signs: what `looks_like` looks for, in words; '' where the description says it.
        subsets: every value that --subset may have, where the format knows them.
        label_schemes: every value that --label-scheme may have, where the format knows them.
    """

    name: str
    description: str
    modality: str
    options: tuple[str, ...]
    looks_like: Callable[[Path], bool]
    survey: Surveyor
    classes: str = ""
    licence: str = ""
    obtain: str = ""
    particular: int = 1
    signs: str = ""
    subsets: tuple[str, ...] = ()
    label_schemes: tuple[str, ...] = ()
