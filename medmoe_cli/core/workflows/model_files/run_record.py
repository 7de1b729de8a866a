"""run.json: what a verb did, written beside its output whether it succeeds or not."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import medmoe_cli
from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Reporter

SCHEMA_VERSION = 1
_PACKAGES = ("torch", "numpy", "nibabel", "segment-anything", "batchgenerators", "safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRecord:
    """One case or step of a run.

    Attributes:
        status: ok, cached, skipped or failed.
        facts: further keys of its entry in run.json.
    """

    id: str
    status: str
    seconds: float
    detail: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """As run.json has it."""
        own = {"id": self.id, "status": self.status, "seconds": self.seconds, "detail": self.detail}
        return {**own, **{key: jsonio.plain(value) for key, value in self.facts.items()}}


class RunRecorder:
    """Passes progress on and keeps what run.json needs; a context manager that writes it at the end.

    Args:
        verb: the command's verb.
        folder: where run.json goes; set later with `folder = ...` when it is not known yet. When the verb fails
            before the folder exists nothing is written.
        reporter: receives everything that is reported.
        arguments: the verb's arguments as given.
        seed: the run's seed, None where nothing is drawn.
    """

    def __init__(
        self,
        verb: str,
        *,
        folder: Path | None,
        reporter: Reporter,
        arguments: Mapping[str, Any],
        seed: int | None = None,
    ) -> None:
        self.verb, self.folder, self.arguments, self.seed = verb, folder, dict(arguments), seed
        self.cases: list[CaseRecord] = []
        self.warnings: list[str] = []
        self.inputs: dict[str, str] = {}
        self.outputs: list[Path] = []
        self.exit_code = 0
        self.results: Any = None  # the verb's own tables, where it has some; a key of run.json
        self._facts: dict[str, Any] = {}
        self._reporter = reporter
        self._started = self._last = time.monotonic()
        self._at = datetime.now(UTC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        message = None
        if error is not None:
            self.exit_code = (
                error.exit_code
                if isinstance(error, MedMoEError)
                else 130
                if isinstance(error, KeyboardInterrupt)
                else 1
            )
            message = error.line() if isinstance(error, MedMoEError) else f"{type(error).__name__}: {error}"
        if self.folder is not None and self.folder.is_dir():
            self._write(message)

    def start(self, task: str, total: int | None) -> None:
        """A task begins."""
        self._last = time.monotonic()
        self._reporter.start(task, total)

    def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
        """A case is done; its time is the time since the last one."""
        now = time.monotonic()
        seconds = round(now - self._last, 3)
        self.cases.append(CaseRecord(id=item, status=status, seconds=seconds, detail=detail, facts=self._facts))
        self._last, self._facts = now, {}
        self._reporter.advance(item, status=status, detail=detail)

    def add_facts(self, **facts: Any) -> None:
        """Keys for the entry of the case that is done next."""
        self._facts = {**self._facts, **facts}

    def update(self, detail: str) -> None:
        """A heartbeat."""
        self._reporter.update(detail)

    def finish(self) -> None:
        """The task ended."""
        self._reporter.finish()

    def info(self, message: str) -> None:
        """A log line."""
        self._reporter.info(message)

    def warn(self, message: str) -> None:
        """A warning, kept for run.json."""
        self.warnings.append(message)
        self._reporter.warn(message)

    def add_input(self, path: Path) -> None:
        """Record a file that was read, with its sha256."""
        self.inputs[str(path)] = file_sha256(path)

    def add_output(self, path: Path) -> None:
        """Record a file or folder that was written."""
        self.outputs.append(path)

    def _write(self, error: str | None) -> None:
        assert self.folder is not None
        target = self.folder / "run.json"
        _keep_another_verbs(target, self.verb)
        jsonio.write(
            target,
            {
                "schema_version": SCHEMA_VERSION,
                "verb": self.verb,
                "command": ["medmoe", *sys.argv[1:]] if Path(sys.argv[0]).stem in {"medmoe", "__main__"} else None,
                "arguments": {key: jsonio.plain(value) for key, value in self.arguments.items()},
                "started": self._at.isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self._started, 3),
                "exit_code": self.exit_code,
                "error": error,
                "seed": self.seed,
                "versions": _versions(),
                "inputs_sha256": self.inputs,
                "cases": [case.entry() for case in self.cases],
                "outputs": self.outputs,
                "warnings": self.warnings,
                **({} if self.results is None else {"results": jsonio.plain(self.results)}),
            },
        )


def _keep_another_verbs(path: Path, verb: str) -> None:
    """`evaluate -o` into a folder of masks must not cost `predict` its record: that becomes run.predict.json."""
    if not path.is_file():
        return
    earlier = jsonio.read(path)
    if isinstance(earlier, dict) and earlier.get("verb") not in {None, verb}:
        path.replace(path.with_name(f"run.{earlier['verb']}.json"))


def _versions() -> dict[str, str]:
    versions = {"medmoe": medmoe_cli.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
