"""A page: sections of text, tables and pictures, rendered to one HTML file that needs nothing else.

Pictures are inlined, styles too, there is no script; the page's own policy forbids loading anything.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import jinja2

from medmoe_cli.core.reporting.figures import DPI

GENERATOR = "medmoe report"
_SCREEN_DPI = 105


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
class Table:
    """A table; the first column names the row.

    Attributes:
        caption: above it.
        columns: headings.
        rows: as they are printed.
        numbers: whether all but the first column are numbers, set to the right.
        swatches: colour of each row's name, '' for none; () where no row has one.
        note: below it, '' for none.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True
    swatches: tuple[str, ...] = ()
    note: str = ""

    kind: Literal["table"] = "table"


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
