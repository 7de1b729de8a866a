"""A page: sections of text, tables and pictures, rendered to one HTML file that needs nothing else.

Pictures are inlined, styles too, there is no script; the page's own policy forbids loading anything.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from typing import Literal

import jinja2

from medmoe_cli.core.reporting.figures import DPI
from medmoe_cli.core.reporting.palette import EXPERT as SHADE

GENERATOR = "medmoe report"
_SCREEN_DPI = 105
# Dark letters stay readable on it.
_DARKEST = 0.55


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A paragraph; `result` is the page's headline, `note` and `warning` stand out."""

    text: str
    tone: Literal["plain", "result", "note", "warning"] = "plain"

    kind: Literal["text"] = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """A part that cannot be shown, and why."""

    part: str
    why: str

    kind: Literal["missing"] = "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A heading over several columns of a table."""

    title: str
    columns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        caption: above it.
        columns: headings.
        rows: as they are printed.
        numbers: whether all but the first column are numbers, set to the right.
        swatches: colour of each row's name, '' for none; () where no row has one.
        groups: headings over the columns after the first, which they cover all; () for none.
        shades: how dark each cell after the first is, 0 to 1, by row; () where none is.
        note: below it, '' for none.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True
    swatches: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    shades: tuple[tuple[float, ...], ...] = ()
    note: str = ""

    kind: Literal["table"] = "table"

    @property
    def starts(self) -> frozenset[int]:
        """The columns that begin a group, the first column being 0."""
        ends = list(accumulate(group.columns for group in self.groups))
        return frozenset(1 + end for end in (0, *ends[:-1])) if ends else frozenset()

    def style(self, row: int, column: int) -> str:
        """The background of a cell after the first column."""
        if not self.shades:
            return ""
        red, green, blue = (int(SHADE[place : place + 2], 16) for place in (1, 3, 5))
        return f"background: rgba({red}, {green}, {blue}, {_DARKEST * self.shades[row][column]:.3f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file, without ending.
        png: the file's content.
        alt: what it shows, for those who cannot see it.
        caption: below it.
        half: it may stand beside another one where there is room.
    """

    name: str
    png: bytes
    alt: str
    caption: str
    half: bool = False

    kind: Literal["picture"] = "picture"

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def width_px(self) -> int:
        """Width on the page: a drawn inch is a little more than an inch of the screen, letters are as tall as text."""
        pixels = int.from_bytes(self.png[16:20], "big")  # IHDR comes first in every PNG
        return round(pixels * _SCREEN_DPI / DPI)


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Lines to type."""

    lines: tuple[str, ...]

    kind: Literal["code"] = "code"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Words and what they mean."""

    meanings: tuple[tuple[str, str], ...]

    kind: Literal["terms"] = "terms"


Block = Text | Missing | Table | Picture | Code | Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """For links within the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        title: of the window and the page.
        subtitle: below it.
        footer: the last line.
        sections: in reading order.
    """

    title: str
    subtitle: str
    footer: str
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in reading order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Picture))

    @property
    def missing(self) -> tuple[Missing, ...]:
        """All parts that cannot be shown."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Missing))


def render(page: Page) -> str:
    """The page as HTML; every value is escaped."""
    source = resources.files("medmoe_cli.core.reporting").joinpath("templates/page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(page=page, generator=GENERATOR)


def is_page(html: str) -> bool:
    """True for a page that `render` made."""
    return f'<meta name="generator" content="{GENERATOR}">' in html[:2000]
