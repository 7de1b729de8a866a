"""A method's card: what it is, what it takes, and under which licence; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """Facts about a method.

    Attributes:
        name: as typed after `--method`.
        title: the paper's name for it.
        paper: title, venue, year.
        dims: 2 or 3, the dimensionality of the network's input.
        prompts: prompt kinds it understands.
        licence: of this implementation.
        summary: one line for lists.
        presets: those to choose from when none is named, the preferred one first.
    """

    name: str
    title: str
    paper: str
    dims: Literal[2, 3]
    prompts: tuple[str, ...]
    licence: str
    summary: str
    presets: tuple[str, ...] = ()
