"""convert: a public release or a plain folder becomes a dataset of the workspace."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import ConfigError, PartialError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.converters.registry import FORMATS, recognise, survey_source
from medmoe_cli.core.data.converters.source import ConvertOptions
from medmoe_cli.core.data.workers import worker_count
from medmoe_cli.core.data.write_dataset import Written, require_absent, write_dataset
from medmoe_cli.core.workflows.run_record import RunRecorder

__all__ = ["ConvertOptions", "ConvertResult", "FormatRow", "list_formats", "run_convert"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatRow:
    """One source format for `convert --list`."""

    name: str
    description: str
    modality: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertResult:
    """A finished conversion; `exit_code` is 6 when some cases failed."""

    name: str
    format: str
    written: Written
    exit_code: int


def list_formats() -> tuple[FormatRow, ...]:
    """The formats that are read."""
    return tuple(
        FormatRow(name=known.name, description=known.description, modality=known.modality) for known in FORMATS.values()
    )


def run_convert(
    *,
    workspace: Workspace,
    source: Path,
    format: str | None,
    name: str,
    options: ConvertOptions | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    reporter: Reporter,
) -> ConvertResult:
    """Convert `source` to WORKSPACE/datasets/NAME.

    Args:
        workspace: where the dataset goes.
        source: the folder of the release.
        format: one of `list_formats`; None is an error that says what the source looks like.
        name: the dataset's name.
        options: the format's own.
        overwrite: replace a dataset of that name.
        workers: processes; None chooses.
        limit: convert only the first cases.
        reporter: hears of every case.

    Raises:
        ConfigError: a bad name, format or option, or the dataset exists.
        DataError: the source cannot be used, or no case could be converted.
        ResourceError: no disk, no memory, a dead worker.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"bad dataset name '{name}'", fix="use letters, digits, '-', '_' and '.'")
    options = options or ConvertOptions()
    target = workspace.datasets / name
    if source.exists() and source.resolve() == target.resolve():
        raise ConfigError("the source is the dataset itself", where=source, fix="choose another --name")
    if format is None:
        likely = recognise(source) if source.is_dir() else None
        why = f"{source} looks like {likely}" if likely else ""
        raise ConfigError("no --format", why=why, fix=f"--format {likely}" if likely else "medmoe convert --list")
    require_absent(target, overwrite=overwrite)
    arguments = {"source": source.resolve(), "format": format, "name": name, "limit": limit, **asdict(options)}
    with RunRecorder("convert", folder=None, reporter=reporter, arguments=arguments) as recorder:
        survey = survey_source(source, format, options, workers=workers, reporter=recorder)
        for note in survey.notes:
            recorder.info(note)
        count = worker_count(workers, min(len(survey.cases), limit or len(survey.cases)) or 1)
        written = write_dataset(target, survey, overwrite=overwrite, workers=count, limit=limit, reporter=recorder)
        recorder.folder = target
        recorder.inputs.update(written.inputs)
        recorder.add_output(target)
        for skipped in (*written.skipped, *written.failed):
            recorder.warnings.append(f"{skipped.what}: {skipped.why}")
        recorder.exit_code = PartialError.exit_code if written.failed else 0
    return ConvertResult(name=name, format=survey.format, written=written, exit_code=recorder.exit_code)
