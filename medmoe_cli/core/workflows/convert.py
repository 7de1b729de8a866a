"""convert: a public release or a plain folder becomes a dataset of the workspace."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from medmoe_cli.core.base.errors import ConfigError, PartialError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.converters.detect import Detected, detect, root_of, survey_source
from medmoe_cli.core.data.converters.registry import FORMATS, fitting, require_format, require_options
from medmoe_cli.core.data.converters.source import ConvertOptions
from medmoe_cli.core.data.workers import worker_count
from medmoe_cli.core.data.write_dataset import Written, plan_dataset, require_absent, write_dataset
from medmoe_cli.core.workflows.convert_source import OpenSource, open_source
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder

__all__ = ["AUTO", "ConvertOptions", "ConvertResult", "FormatRow", "is_format", "list_formats", "run_convert", "tables"]

AUTO = "auto"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatRow:
    """One source format for `convert --list`."""

    name: str
    description: str
    modality: str
    classes: str
    licence: str
    obtain: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertResult:
    """A finished conversion, or a planned one; `exit_code` is 6 when some cases failed."""

    name: str
    format: str
    written: Written
    exit_code: int


def list_formats() -> tuple[FormatRow, ...]:
    """The formats that are read."""
    names = [field.name for field in fields(FormatRow)]
    return tuple(FormatRow(**{name: getattr(known, name) for name in names}) for known in FORMATS.values())


def is_format(word: str) -> bool:
    """True for the name of a format, 'auto' among them."""
    return word == AUTO or word in FORMATS


def tables(written: Written) -> dict[str, Any]:
    """What a conversion's tables hold, for JSON: everything but the digests of the files that were read."""
    return {field.name: getattr(written, field.name) for field in fields(written) if field.name != "inputs"}


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
    dry_run: bool = False,
    reporter: Reporter,
) -> ConvertResult:
    """Convert `source` to WORKSPACE/datasets/NAME.

    Args:
        workspace: where the dataset goes.
        source: the folder of the release, a zip or tar of it, or a folder of its zips.
        format: one of `list_formats`, or 'auto'; None is an error that says what the source looks like.
        name: the dataset's name.
        options: the format's own.
        overwrite: replace a dataset of that name.
        workers: processes; None chooses.
        limit: convert only the first cases.
        dry_run: understand the source and say what would be written; nothing is.
        reporter: hears of every case.

    Raises:
        ConfigError: a bad name, format or option, several formats that fit, or the dataset exists.
        DataError: the source cannot be used, or no case could be converted.
        ResourceError: no disk, no memory, a dead worker.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"bad dataset name '{name}'", fix="use letters, digits, '-', '_' and '.'")
    options = options or ConvertOptions()
    target = workspace.datasets / name
    if source.exists() and source.resolve() == target.resolve():
        raise ConfigError("the source is the dataset itself", where=source, fix="choose another --name")
    if format not in (None, AUTO):
        require_options(require_format(format or ""), options)
    if not dry_run:
        require_absent(target, overwrite=overwrite)
    arguments = {
        "source": source.resolve(), "format": format, "name": name, "limit": limit, "dry_run": dry_run,
        **asdict(options),
    }  # fmt: skip
    with (
        RunRecorder("convert", folder=None, reporter=reporter, arguments=arguments) as recorder,
        open_source(source, workspace.datasets, reporter=recorder) as opened,
    ):
        root, chosen, notes = _understood(opened, source, format)
        for note in notes:
            recorder.info(note)
        survey = survey_source(root, chosen, options, workers=workers, reporter=recorder)
        survey = replace(survey, notes=(*notes, *survey.notes))
        for note in survey.notes[len(notes) :]:
            recorder.info(opened.spelling(note))
        if dry_run:
            plan = plan_dataset(target, survey, limit=limit, spelling=opened.spelling)
            return ConvertResult(name=name, format=survey.format, written=plan, exit_code=0)
        count = worker_count(workers, min(len(survey.cases), limit or len(survey.cases)) or 1)
        written = write_dataset(
            target,
            survey,
            overwrite=overwrite,
            workers=count,
            limit=limit,
            reporter=recorder,
            spelling=opened.spelling,
        )
        recorder.folder = target
        recorder.inputs.update(written.inputs)
        recorder.results = tables(written)
        recorder.add_output(target)
        for skipped in (*written.skipped, *written.failed):
            recorder.warnings.append(f"{skipped.what}: {skipped.why}")
        recorder.exit_code = PartialError.exit_code if written.failed else 0
    return ConvertResult(name=name, format=survey.format, written=written, exit_code=recorder.exit_code)


def _understood(opened: OpenSource, source: Path, format: str | None) -> tuple[Path, str, tuple[str, ...]]:
    """The folder where the layout begins, its format, and what was found out on the way."""
    notes = [opened.note] if opened.note else []
    if format is None:
        found = detect(opened.root)
        why = f"{source} looks like {found.format.name}: {found.why}"
        raise ConfigError("no --format", why=why, fix=f"--format {found.format.name}, or --format {AUTO}")
    if format == AUTO:
        found = detect(opened.root)
        notes.append(_said(found))
        root, chosen = found.root, found.format.name
    else:
        known = require_format(format)
        root, chosen = root_of(opened.root, known), format
        better = [one.name for one in fitting(root) if one.particular > known.particular]
        if better and known.looks_like(root):
            notes.append(f"it also looks like {better[0]}, a format of its own: is --format {format} meant?")
    if root != opened.root:
        notes.append(f"the layout begins at {root.relative_to(opened.root)}/")
    return root, chosen, tuple(notes)


def _said(found: Detected) -> str:
    others = f" (it would also pass for {', '.join(found.others)})" if found.others else ""
    return f"found {found.format.name}: {found.why}{others}"
