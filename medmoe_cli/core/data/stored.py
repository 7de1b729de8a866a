"""Reading back what an earlier run stored, where anything unusable simply has to be made again."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.sections import Section

Stored = TypeVar("Stored", bound=Section)


def read_stored(path: Path, kind: type[Stored]) -> Stored | None:
    """The record in a file; None when it is absent, damaged or of another version."""
    if not path.is_file():
        return None
    try:
        return kind.model_validate(jsonio.read(path))
    except (DataError, ValidationError):
        return None
