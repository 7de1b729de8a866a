"""`medmoe models export`: a trained or merged model as a zip or a folder that runs no code when it is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.archives import pack
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import BACKBONES, BackboneFacts, check_name
from medmoe_cli.core.data.dataset_file import modality_text
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.reporting.model_card import ModelFacts, TrainingData, licence_text, model_card
from medmoe_cli.core.reporting.summary_file import SummaryRead, read_summary
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, load_model, save_model
from medmoe_cli.core.workflows.model_files.run_folder import DATASET_NAME
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.model_files.shared_model import (
    CARD,
    LICENCE,
    RECORD,
    WEIGHTS,
    file_entry,
    is_tensors,
    limit_of,
)
from medmoe_cli.core.workflows.model_files.shared_model import read_record as read_shared

_ZIP = ".zip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export wrote; `weights_sha256` is model.safetensors'."""

    path: Path
    name: str
    method: str
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    size_mb: float
    weights_sha256: str
    licence: str


def export_model(
    *,
    workspace: Workspace,
    model: str,
    output: Path,
    reporter: Reporter,
    licence: Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model to share.

    Args:
        workspace: where names resolve.
        model: as `predict -m` takes it.
        output: a file that ends in .zip, or a folder.
        reporter: is told what happens.
        licence: a text file that becomes LICENSE; without it one is written that names the parts' licences.
        overwrite: replace what is at `output`.

    Raises:
        ConfigError: `output` exists, or cannot be a model's name.
        CheckpointError: the model cannot be used.
        DataError: the licence file cannot be read.
        ResourceError: the disk is full.
    """
    as_zip = output.suffix.lower() == _ZIP
    name = output.stem if as_zip else output.name
    check_name(name)
    _require_free(output, as_zip=as_zip, overwrite=overwrite)
    arguments = {"model": model, "output": output, "licence": licence}
    with RunRecorder("models export", folder=None, reporter=reporter, arguments=arguments) as record:
        given = _licence(licence)
        loaded = load_model(model, workspace=workspace, reporter=record)

        def fill(folder: Path) -> None:
            _lay_out(folder, loaded, name=name, licence=given)

        if as_zip:
            written = _through_a_folder(output, fill)
        else:
            written = _names_in(atomic.replace_dir(output, fill))
        record.inputs[str(loaded.source)] = loaded.sha256
        record.folder = output.resolve().parent  # beside a folder, too: what is shared says nothing of this machine
        record.add_output(output)
        size = output.stat().st_size if as_zip else sum((output / one).stat().st_size for one in written)
        return Exported(
            path=output,
            name=name,
            method=loaded.plan.method,
            class_names=loaded.class_names,
            files=written,
            size_mb=round(size / 1e6, 1),
            weights_sha256=loaded.sha256,
            licence="given" if given is not None else "generated",
        )


def _require_free(output: Path, *, as_zip: bool, overwrite: bool) -> None:
    if not output.exists():
        return
    if output.is_dir() == as_zip:
        kind = "a folder" if output.is_dir() else "a file"
        raise ConfigError(f"the output is {kind}", where=output, fix="end a zip's name in .zip and a folder's not")
    if not overwrite:
        raise ConfigError("the output exists", where=output, fix="choose another -o, or add --overwrite")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        why = "it holds something else, which would be lost"
        raise ConfigError("not a model's folder", where=output, why=why, fix="choose another -o")


def _licence(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot read the licence", where=path, why=str(error), fix="give a text file") from error
    if not text.strip() or len(text.encode()) > (limit_of(LICENCE) or 0):
        raise DataError("no licence text", where=path, why=f"it has {len(text)} characters", fix="give a text file")
    return text


def _through_a_folder(output: Path, fill: Callable[[Path], None]) -> tuple[str, ...]:
    """Lay the files out beside the zip, pack them, and leave the zip alone."""
    staging = atomic.temporary_sibling(output.with_suffix(""))
    atomic.sweep(output.parent)
    try:
        atomic.replace_dir(staging, fill)
        names = _names_in(staging)
        pack(output, {name: staging / name for name in names})
        return names
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _names_in(folder: Path) -> tuple[str, ...]:
    """The model's files, its record first."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return tuple(sorted(names, key=lambda name: name != RECORD))


def _lay_out(folder: Path, loaded: LoadedModel, *, name: str, licence: str | None) -> None:
    shared = loaded.source if (loaded.source / RECORD).is_file() else None
    if shared is not None:
        for one in read_shared(shared).files:
            if is_tensors(one):
                (folder / one).parent.mkdir(exist_ok=True)
                shutil.copyfile(shared / one, folder / one)
        content = dict(jsonio.read(shared / RECORD))
    else:
        saved = save_model(loaded, folder / "saved")
        content = dict(jsonio.read(saved / RECORD))
        for one in content["files"]:
            (folder / one).parent.mkdir(exist_ok=True)
            (saved / one).replace(folder / one)
        shutil.rmtree(saved)
        # The very file that the run keeps: a model has one sha256, here and wherever it goes.
        shutil.copyfile(loaded.source / WEIGHTS, folder / WEIGHTS)
    facts = _facts(loaded, name=name, shared=shared, folder=folder)
    _write_documents(folder, facts, shared=shared, licence=licence)
    content |= {
        "name": name,
        "model": _without_local_paths(content["model"]),
        "files": {one: file_entry(folder / one) for one in _names_in(folder) if is_tensors(one)},
        "documents": {one: file_entry(folder / one) for one in (CARD, LICENCE)},
    }
    jsonio.write(folder / RECORD, content)


def _write_documents(folder: Path, facts: ModelFacts, *, shared: Path | None, licence: str | None) -> None:
    """The documents that came with a model go on with it; those it lacks are written."""
    for document, text in ((CARD, None), (LICENCE, licence)):
        kept = shared / document if shared is not None else None
        if text is None and kept is not None and kept.is_file():
            shutil.copyfile(kept, folder / document)
        else:
            generated = model_card(facts) if document == CARD else licence_text(facts)
            atomic.write_text(folder / document, text if text is not None else generated)


def _facts(loaded: LoadedModel, *, name: str, shared: Path | None, folder: Path) -> ModelFacts:
    # A run keeps its checkpoints two levels below the fold's own files.
    fold = None if shared is not None else loaded.source.parent.parent
    experts = tuple(sorted(path.stem for path in (folder / "experts").glob("*.safetensors")))
    return ModelFacts(
        name=name,
        card=loaded.card,
        plan=loaded.plan,
        data=_training_data(loaded, fold),
        prompt_kinds=tuple(sorted(loaded.segmenter.prompt_kinds)),
        open_vocabulary=loaded.segmenter.open_vocabulary,
        parameters=sum(parameter.numel() for parameter in loaded.segmenter.parameters()),
        experts=experts,
        backbone=_backbone(loaded),
        summary=_summary(fold),
        medmoe=medmoe_cli.__version__,
        weights_sha256=file_entry(folder / WEIGHTS).sha256,
    )


def _training_data(loaded: LoadedModel, fold: Path | None) -> TrainingData:
    path = None if fold is None else fold / DATASET_NAME
    if path is None or not path.is_file():
        return TrainingData(name=loaded.plan.dataset)
    content: Any = jsonio.read(path)
    texts = {
        key: str(content[key])
        for key in ("description", "reference", "licence")
        if isinstance(content.get(key), str | int | float)
    }
    texts["modality"] = modality_text(content.get("modality", "")) or ""
    count = content.get("numTraining")
    return TrainingData(name=loaded.plan.dataset, num_training=count if isinstance(count, int) else None, **texts)


def _backbone(loaded: LoadedModel) -> BackboneFacts | None:
    weights = find_method(loaded.plan.method).backbone_name(loaded.config)
    if weights is None:
        return None
    return BACKBONES.get(weights) or BACKBONES.get(str(getattr(loaded.config, "backbone", "")))


def _summary(fold: Path | None) -> SummaryRead | None:
    path = None if fold is None else fold / "validation" / "summary.json"
    return read_summary(path) if path is not None and path.is_file() else None


def _without_local_paths(model: Any) -> dict[str, Any]:
    """The model section without folders of this machine: loading reads none of them, and they are nobody's business."""
    if not isinstance(model, dict):
        raise CheckpointError("cannot read the model's configuration", where=RECORD, fix="train it again")
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in model.items()
    }
