"""MANIFEST.json: the commit mark of a folder of weights, with the sha256 and size of each of its files.

Neither safetensors nor any other tensor format notices a flipped byte; this does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import medmoe_cli
from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.hashing import file_sha256

NAME = "MANIFEST.json"
SCHEMA_VERSION = 1


def write_manifest(folder: Path, *, facts: Mapping[str, Any]) -> Path:
    """Write the manifest of all files in `folder`; call it last."""
    files = {
        file.name: {"sha256": file_sha256(file), "bytes": file.stat().st_size}
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name != NAME
    }
    return jsonio.write(
        folder / NAME,
        {"schema_version": SCHEMA_VERSION, "medmoe": medmoe_cli.__version__, **facts, "files": files},
    )


def read_manifest(folder: Path, *, name: str = NAME) -> dict[str, Any]:
    """Read the manifest and check that every file it names is there, whole and unchanged.

    Args:
        folder: of the files.
        name: of the JSON file whose `files` are checked (a shared model's is model.json).

    Raises:
        CheckpointError: no manifest (the folder was never finished), or a file that is missing or damaged.
    """
    if not (folder / name).is_file():
        raise CheckpointError(
            "unfinished checkpoint",
            where=folder,
            why=f"it has no {name}",
            fix=f"remove it and use an older one: {folder}",
        )
    try:
        manifest: dict[str, Any] = dict(jsonio.read(folder / name))
        files = {str(key): (str(entry["sha256"]), int(entry["bytes"])) for key, entry in manifest["files"].items()}
    except (DataError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise _damaged(folder / name, "it cannot be read") from error
    for key, (sha256, size) in files.items():
        file = folder / key
        if not _is_inside(key) or not file.is_file():
            raise _damaged(file, "it is missing")
        if file.stat().st_size != size:
            raise _damaged(file, f"it has {file.stat().st_size} bytes, not {size}")
        if file_sha256(file) != sha256:
            raise _damaged(file, f"its sha256 is not the one in {name}")
    return manifest


def _is_inside(name: str) -> bool:
    """A plain path of the folder's own files."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "damaged checkpoint", where=file, why=why, fix="use another checkpoint, or a copy of this one"
    )
