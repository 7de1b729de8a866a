"""Strict JSON: no NaN, no Infinity, sorted only where asked; read errors name the file and line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import DataError


def plain(value: Any) -> Any:
    """Turn dataclasses, paths, numpy values, sets and tuples into JSON values; NaN and Inf become null."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="python"))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def dumps(value: Any, *, indent: int | None = 2) -> str:
    """Serialise strictly."""
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def write(path: Path, value: Any) -> Path:
    """Write strict JSON atomically."""
    return atomic.write_text(path, dumps(value) + "\n")


def read(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is absent, not text, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("file not found", where=path, fix="check the path") from error
    except IsADirectoryError as error:
        raise DataError("a folder where a file was expected", where=path, fix="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError("not a text file", where=path, why="it is not UTF-8", fix="check the file") from error
    except json.JSONDecodeError as error:
        raise DataError(
            "not valid JSON", where=path, why=f"line {error.lineno}: {error.msg}", fix="correct the file"
        ) from error
