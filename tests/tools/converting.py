"""Run a conversion and look at what was written, with readers that are not the project's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.workflows.convert import ConvertOptions, ConvertResult, run_convert


def convert(tmp_path: Path, source: Path, format: str | None, *, name: str = "ds", **arguments: Any) -> ConvertResult:
    """Convert into a workspace below `tmp_path`; keywords that run_convert does not know are format options."""
    known = {
        key: arguments.pop(key) for key in ("overwrite", "workers", "limit", "dry_run", "reporter") if key in arguments
    }
    known.setdefault("workers", 1)
    known.setdefault("reporter", Silent())
    return run_convert(
        workspace=workspace_of(tmp_path),
        source=source,
        format=format,
        name=name,
        options=ConvertOptions(**arguments),
        **known,
    )


def workspace_of(tmp_path: Path) -> Workspace:
    """A workspace below `tmp_path`."""
    return Workspace(root=tmp_path / "ws", origin="test")


def dataset_json(result: ConvertResult) -> dict[str, Any]:
    """The written dataset.json."""
    content: dict[str, Any] = json.loads((result.written.root / "dataset.json").read_text())
    return content


def names(folder: Path) -> list[str]:
    """File names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def lines_of(error: MedMoEError) -> list[str]:
    """One line per problem."""
    return [problem.line() for problem in getattr(error, "problems", [error])]
