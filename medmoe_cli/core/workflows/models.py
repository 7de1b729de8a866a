"""`medmoe models`: bring pretrained weights into the workspace, list what is there, show one.

Shared models, which `models import` brings, lie beside the backbones and are listed with them.

A public checkpoint is read once, without running any code, turned into safetensors under SAM's names and kept by
sha256 as WORKSPACE/models/NAME/{model.safetensors, model.json}.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import (
    BACKBONES,
    RECORD_FILE,
    TENSORS_FILE,
    BackboneFacts,
    BackboneRecord,
    KeySummary,
    backbone_facts,
    check_name,
    read_record,
    verify_backbone,
)
from medmoe_cli.core.workflows.model_files.run_folder import all_folds
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.model_files.shared_model import KIND, SharedEntry, shared_entry, verify_files
from medmoe_cli.core.workflows.model_files.shared_model import read_record as read_shared


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAdded:
    """Outcome of adding a backbone; `cached` when the same file had been added before."""

    folder: Path
    record: BackboneRecord
    cached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model of the workspace; without a record, `problem` says what is wrong with it."""

    name: str
    folder: Path
    size_mb: float
    record: BackboneRecord | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """A fold of a training: its name as `predict -m` takes it, and the step of its newest checkpoint, if any."""

    name: str
    step: int | None
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelList:
    """What the workspace holds (backbones, shared models, runs), and the known backbones it does not hold."""

    models: tuple[ModelEntry, ...]
    shared: tuple[SharedEntry, ...]
    trained: tuple[TrainedRun, ...]
    available: tuple[BackboneFacts, ...]


def add_model(
    *, workspace: Workspace, architecture: str, path: Path, reporter: Reporter, name: str | None = None
) -> ModelAdded:
    """Convert a public checkpoint and keep it.

    Args:
        workspace: receives models/NAME.
        architecture: a name of `BACKBONES`.
        path: the checkpoint, .pth or .safetensors; of SAM3 also the folder of its files.
        reporter: is told what happens.
        name: another name than the architecture's, for instance for a fine-tuned SAM.

    Raises:
        ConfigError: unknown architecture, bad name, or the name is taken by other weights.
        CheckpointError: not readable, hostile, or not that architecture.
        ResourceError: no space.
    """
    facts = backbone_facts(architecture)
    name = name or architecture
    check_name(name)
    folder = workspace.models / name
    if folder.parent.is_dir():
        atomic.sweep(folder.parent)
    arguments = {"architecture": architecture, "path": path, "name": name}
    with RunRecorder("models add", folder=None, reporter=reporter, arguments=arguments) as recorder:
        if not path.is_file() and not (facts.with_files and path.is_dir()):
            why = "it is a folder" if path.is_dir() else "there is no such file"
            raise CheckpointError("weights not found", where=path, why=why, fix=f"get {facts.file} from {facts.source}")
        source_sha256 = _source_sha256(path, facts, recorder)
        kept = _kept(folder, architecture=architecture, source_sha256=source_sha256, reporter=recorder)
        if kept is not None:
            return ModelAdded(folder=folder, record=kept, cached=True)
        _refuse_anothers_file(facts, source_sha256)
        record = _convert_into(folder, facts=facts, path=path, source_sha256=source_sha256, reporter=recorder)
        recorder.folder = folder
        recorder.add_output(folder / TENSORS_FILE)
        return ModelAdded(folder=folder, record=record, cached=False)


def list_models(workspace: Workspace) -> ModelList:
    """Everything under WORKSPACE/models, damaged or not, by name, and every run; no weights are read."""
    folders = sorted(path.parent for path in workspace.models.glob(f"[!.]*/{RECORD_FILE}"))
    entries = tuple(_entry(folder) for folder in folders if not _is_shared(folder))
    held = {entry.record.architecture for entry in entries if entry.record is not None}
    return ModelList(
        models=entries,
        shared=tuple(shared_entry(folder) for folder in folders if _is_shared(folder)),
        trained=tuple(TrainedRun(name=run.name, step=run.last_step, folder=run.path) for run in all_folds(workspace)),
        available=tuple(facts for facts in BACKBONES.values() if facts.name not in held),
    )


def show_model(workspace: Workspace, name: str) -> ModelEntry | SharedEntry:
    """One backbone or shared model, its weights checked against their sha256.

    Raises:
        CheckpointError: no such model, or damaged.
    """
    folder = find_model(workspace, name)
    if _is_shared(folder):
        record = read_shared(folder)
        present = frozenset(file for file in record.entries if (folder / file).is_file())
        verify_files(folder, record, present)
        return shared_entry(folder)
    verify_backbone(folder)
    return _entry(folder)


def find_model(workspace: Workspace, name: str) -> Path:
    """The folder of a model given by name or path.

    Raises:
        CheckpointError: neither.
    """
    for folder in (workspace.models / name, Path(name)):
        if (folder / RECORD_FILE).is_file():
            return folder
    facts = BACKBONES.get(name)
    if facts is not None:
        raise CheckpointError(
            f"model '{name}' is not here yet",
            where=workspace.models,
            why=f"its weights are {facts.file} from {facts.source}",
            fix=f"medmoe models add {name} {facts.file}",
        )
    found = list_models(workspace)
    known = [*(entry.name for entry in found.models), *(entry.name for entry in found.shared)]
    raise CheckpointError(
        f"unknown model '{name}'",
        where=workspace.models,
        why=did_you_mean(name, [*known, *BACKBONES]),
        fix="medmoe models list",
    )


def _source_sha256(path: Path, facts: BackboneFacts, recorder: RunRecorder) -> str:
    """Of the file, or of the names and sha256 of all files where there are several."""
    if not facts.with_files:
        recorder.inputs[str(path)] = file_sha256(path)
        return recorder.inputs[str(path)]
    from medmoe_cli.core.nn.backbones import source_files

    found = {file.name: file_sha256(file) for file in source_files(path, facts.name)}
    recorder.inputs.update({str(path / name) if path.is_dir() else name: sha256 for name, sha256 in found.items()})
    return value_sha256(found)


def _kept(folder: Path, *, architecture: str, source_sha256: str, reporter: Reporter) -> BackboneRecord | None:
    """The record of the same source added before; None when there is nothing, or what is there is damaged."""
    if not folder.exists():
        return None
    try:
        record = read_record(folder)
    except CheckpointError as error:
        reporter.warn(f"{error.what} in {error.where}: {error.why}; adding it again")
        return None
    if record.architecture != architecture or record.source_sha256 != source_sha256:
        raise ConfigError(
            f"model '{folder.name}' exists",
            where=folder,
            why=f"it is {record.architecture} made from {record.source_file}, other weights than these",
            fix=f"add --name OTHER, or remove {folder}",
        )
    try:
        verify_backbone(folder)
    except CheckpointError as error:
        reporter.warn(f"{error.what} in {error.where}: {error.why}; adding it again")
        return None
    return record


def _refuse_anothers_file(facts: BackboneFacts, source_sha256: str) -> None:
    for other in BACKBONES.values():
        if other.sha256 == source_sha256 and other.name != facts.name:
            raise CheckpointError(
                f"not a {facts.name}",
                why=f"this is the public {other.file}",
                fix=f"medmoe models add {other.name} {other.file}",
            )


def _convert_into(
    folder: Path, *, facts: BackboneFacts, path: Path, source_sha256: str, reporter: Reporter
) -> BackboneRecord:
    from medmoe_cli.core.nn.backbones import convert, convert_sam3
    from medmoe_cli.core.nn.weights import read_foreign, save_tensors

    if facts.with_files:
        converted = convert_sam3(path)
    else:
        tensors = read_foreign(path, allow_namespace=facts.carries_arguments)
        converted = convert(tensors, architecture=facts.name, where=path)
    report = converted.report
    reporter.info(f"{path.name}: {report.line()}, {len(converted.left_out)} left out")
    if converted.new:
        reporter.info(f"{len(converted.new)} new tensors, to be trained: {', '.join(converted.new)}")
    if facts.sha256 is not None and facts.sha256 != source_sha256:
        reporter.info(f"not the public {facts.file} (another sha256): taken as other weights of a {facts.name}")
    if report.unexpected:
        names = ", ".join(report.unexpected[:2]) + (", and more" if len(report.unexpected) > 2 else "")
        reporter.warn(f"{len(report.unexpected)} unexpected tensors are left out: {names}")

    def fill(temporary: Path) -> None:
        file = save_tensors(temporary / TENSORS_FILE, converted.tensors, {"architecture": facts.name})
        record = BackboneRecord(
            name=folder.name,
            architecture=facts.name,
            parameters=converted.parameters,
            tensors_sha256=file_sha256(file),
            source_file=path.name,
            source_sha256=source_sha256,
            source_is_public=None if facts.sha256 is None else facts.sha256 == source_sha256,
            keys=KeySummary(
                loaded=len(report.loaded),
                resized=report.resized,
                unexpected=report.unexpected,
                left_out=converted.left_out,
                new=converted.new,
            ),
            licence=facts.licence,
            added=datetime.now(UTC).isoformat(timespec="seconds"),
            medmoe=medmoe_cli.__version__,
        )
        jsonio.write(temporary / RECORD_FILE, record)

    atomic.replace_dir(folder, fill)
    return read_record(folder)


def _is_shared(folder: Path) -> bool:
    """True for a trained model's folder; what cannot be read at all counts as a damaged backbone."""
    try:
        content = jsonio.read(folder / RECORD_FILE)
    except DataError:
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def _entry(folder: Path) -> ModelEntry:
    tensors = folder / TENSORS_FILE
    size_mb = round(tensors.stat().st_size / 1e6, 1) if tensors.is_file() else 0.0
    try:
        record = read_record(folder)
    except CheckpointError as error:
        return ModelEntry(name=folder.name, folder=folder, size_mb=size_mb, record=None, problem=error.why)
    problem = "" if tensors.is_file() else f"{TENSORS_FILE} is gone"
    return ModelEntry(name=folder.name, folder=folder, size_mb=size_mb, record=record, problem=problem)
