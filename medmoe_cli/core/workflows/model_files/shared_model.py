"""A model to share: the files it consists of, and what its model.json says, read without trust and without torch.

`model.safetensors`, `experts/NAME.safetensors` where experts were merged, `model.json`, MODEL_CARD.md and LICENSE.
model.json names every other file with its sha256: `files` what loading needs, `documents` what people read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.config.sections import Section

RECORD, WEIGHTS, CARD, LICENCE = "model.json", "model.safetensors", "MODEL_CARD.md", "LICENSE"
KIND = "model"
_EXPERT = re.compile(r"experts/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.safetensors")
_RECORD_BYTES, _DOCUMENT_BYTES, _TENSOR_BYTES = 64 << 20, 4 << 20, 256 << 30


class FileEntry(Section):
    """One file as model.json knows it."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class SharedRecord(BaseModel):
    """The part of a shared model's model.json that sharing needs; the rest is the method's."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    kind: str
    schema_version: int
    medmoe: str
    method: str
    plan: dict[str, Any]
    model: dict[str, Any]
    files: dict[str, FileEntry]
    documents: dict[str, FileEntry] = Field(default_factory=dict)

    @property
    def entries(self) -> Mapping[str, FileEntry]:
        """All files but model.json itself."""
        return {**self.documents, **self.files}

    @property
    def dataset(self) -> str:
        """Name of the dataset it was trained on."""
        return str(self.plan.get("dataset", ""))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of its classes, by value."""
        labels = self.plan.get("labels")
        if not isinstance(labels, dict):
            return ()
        return tuple(str(name) for name in sorted(labels, key=lambda name: str(labels[name]).zfill(9)))

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the merged experts' files."""
        return tuple(Path(name).stem for name in sorted(self.files) if _EXPERT.fullmatch(name))


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedEntry:
    """A shared model of the workspace, for lists; `record` is None when `problem` says what is wrong with it."""

    name: str
    folder: Path
    size_mb: float
    record: SharedRecord | None
    problem: str = ""


def limit_of(name: str) -> int | None:
    """The most bytes a file of a shared model may have; None for what is no part of one."""
    if name == RECORD:
        return _RECORD_BYTES
    if name in {CARD, LICENCE}:
        return _DOCUMENT_BYTES
    return _TENSOR_BYTES if is_tensors(name) else None


def is_tensors(name: str) -> bool:
    """True for the names of weights."""
    return name == WEIGHTS or _EXPERT.fullmatch(name) is not None


def read_record(folder: Path) -> SharedRecord:
    """The record of a shared model.

    Raises:
        CheckpointError: absent, no JSON, or not a trained model's.
    """
    path = folder / RECORD
    if not path.is_file():
        raise _unusable(path, "there is none")
    if path.stat().st_size > _RECORD_BYTES:
        raise _unusable(path, f"it has {path.stat().st_size} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        record = SharedRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(path, f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, endless digits, or nested without end
        raise _unusable(path, " ".join(str(error).split())[:120]) from error
    if record.kind != KIND:
        raise _unusable(path, f"it says kind {record.kind[:40]!r}, not {KIND!r}")
    return record


def verify_files(folder: Path, record: SharedRecord, present: frozenset[str]) -> None:
    """Compare a model's files with its record: none is missing, none is unnamed, each has its sha256.

    Args:
        folder: of the model.
        record: its model.json.
        present: the names of the files that came with it.

    Raises:
        CheckpointError: they differ.
    """
    named = record.entries.keys()
    problems = [f"{name!r} is missing" for name in sorted(named - present)]
    problems += [f"{name} is not named in {RECORD}" for name in sorted(present - named - {RECORD})]
    problems += [f"{name} is no weights file" for name in record.files if not is_tensors(name) and name in present]
    if WEIGHTS not in record.files:
        problems.append(f"{RECORD} names no {WEIGHTS}")
    for name in sorted(named & present):
        entry, path = record.entries[name], folder / name
        if path.stat().st_size != entry.bytes:
            problems.append(f"{name} has {path.stat().st_size} bytes, not {entry.bytes}")
        elif file_sha256(path) != entry.sha256:
            problems.append(f"the sha256 of {name} is not the one in {RECORD}")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            "damaged model", where=folder, why="; ".join(problems[:3]) + more, fix="ask for the model again"
        )


def shared_entry(folder: Path) -> SharedEntry:
    """A shared model for lists; no weights are read."""
    size_mb = round(sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6, 1)
    try:
        record = read_record(folder)
    except CheckpointError as error:
        return SharedEntry(name=folder.name, folder=folder, size_mb=size_mb, record=None, problem=error.why)
    gone = [name for name in record.files if not (folder / name).is_file()]
    problem = f"{', '.join(gone[:3])} gone" if gone else ""
    return SharedEntry(name=folder.name, folder=folder, size_mb=size_mb, record=record, problem=problem)


def file_entry(path: Path) -> FileEntry:
    """The entry of a file that is there."""
    return FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _unusable(path: Path, why: str) -> CheckpointError:
    return CheckpointError("no trained model", where=path, why=why, fix="ask for a file that medmoe models export made")
