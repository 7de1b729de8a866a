"""Trained models on disk: found by name or path, checked byte for byte, built and filled; nothing in them is run.

A model is a run (its best checkpoint), one fold of it, one checkpoint, or a shared folder of `model.safetensors`,
`experts/NAME.safetensors` where experts were merged, and `model.json`. An added backbone that answers prompts as it is
counts as one too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.base.progress import Reporter, Silent
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.engine.checkpoint import Checkpoints, read_state
from medmoe_cli.core.engine.manifest import NAME as MANIFEST
from medmoe_cli.core.engine.manifest import read_manifest
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.nn.weights import load_into, load_tensors, save_tensors
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel
from medmoe_cli.core.workflows.model_files.run_folder import (
    CHECKPOINTS,
    POSTPROCESSING_NAME,
    RunFolder,
    all_folds,
    read_config,
    read_plan,
)
from medmoe_cli.core.workflows.model_files.untrained_model import untrained_model

__all__ = ["LoadedModel", "best_checkpoint", "find_model", "load_model", "save_model"]

WEIGHTS, MODEL_CARD = "model.safetensors", "model.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """What a model is made of, before it is built; `checked` are the files whose sha256 is the record's."""

    plan: Plan
    method: str
    model: Mapping[str, Any]
    predict: Mapping[str, Any]
    weights: Path
    postprocessing: Postprocessing
    checked: frozenset[str] = frozenset()


def load_model(name: str | Path | None, *, workspace: Workspace, reporter: Reporter | None = None) -> LoadedModel:
    """Load a trained model.

    Args:
        name: a path, DATASET/METHOD/RUN[/fold_N], a run's or dataset's name, or the name of a model in the
            workspace, an added backbone's too; None takes the newest finished run.
        workspace: where names resolve.
        reporter: told of damaged checkpoints that were passed over.

    Raises:
        ConfigError: a name of several folds.
        CheckpointError: no such model, unfinished, damaged (a sha256 differs), or not of this version.
    """
    reporter = reporter or Silent()
    folder = _find(name, workspace)
    if (folder / MODEL_CARD).is_file() and _kind(folder) == "backbone":
        return untrained_model(folder)
    parts = _shared(folder) if (folder / MODEL_CARD).is_file() else _of_run(folder, reporter)
    return _build(parts)


def find_model(name: str | Path | None, *, workspace: Workspace) -> Path:
    """The folder that a model's name or path leads to, as `-m` resolves it: a fold, a checkpoint, or a shared model.

    Raises:
        ConfigError: a name of several folds.
        CheckpointError: no such model.
    """
    return _find(name, workspace)


def best_checkpoint(fold: Path, reporter: Reporter) -> Path:
    """The best checkpoint of a fold by validation, or the newest undamaged one.

    Raises:
        CheckpointError: there is none, or all are damaged.
    """
    checkpoints = Checkpoints(fold / CHECKPOINTS, keep=2)
    latest = checkpoints.latest(reporter)
    if latest is None:
        raise CheckpointError(
            "no checkpoint", where=fold, why="its training has not saved one yet", fix="choose another run, or wait"
        )
    best = read_state(latest)[0].best_step
    if best is None or best not in checkpoints.steps():
        return latest
    try:
        read_manifest(checkpoints.path(best))
    except CheckpointError as error:
        reporter.warn(f"the best checkpoint cannot be used ({error.where}: {error.why}); taking the newest")
        return latest
    return checkpoints.path(best)


def save_model(loaded: LoadedModel, folder: Path) -> Path:
    """Write a model as a folder to share: its weights and `model.json`, which holds all that loading needs.

    Raises:
        ConfigError: the folder exists.
        ResourceError: the disk is full.
    """
    if folder.exists():
        raise ConfigError("the folder exists", where=folder, fix="choose another one")

    def fill(temporary: Path) -> None:
        tensors = loaded.segmenter.state_dict()
        files = {}
        for name, prefix in find_method(loaded.plan.method).part_files(loaded.config).items():
            own = {key: tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
            (temporary / name).parent.mkdir(exist_ok=True)
            files[name] = save_tensors(
                temporary / name, {key.removeprefix(prefix): tensor for key, tensor in own.items()}
            )
        files[WEIGHTS] = save_tensors(temporary / WEIGHTS, tensors)
        jsonio.write(
            temporary / MODEL_CARD,
            {
                "schema_version": SCHEMA_VERSION,
                "kind": "model",
                "medmoe": medmoe_cli.__version__,
                "method": loaded.plan.method,
                "paper": loaded.card.paper,
                "licence": loaded.card.licence,
                "plan": loaded.plan,
                "model": loaded.config,
                "predict": loaded.predict,
                "postprocessing": loaded.postprocessing,
                "files": {
                    name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for name, path in files.items()
                },
            },
        )

    return atomic.replace_dir(folder, fill)


def _find(name: str | Path | None, workspace: Workspace) -> Path:
    """The folder of a model: a shared one, a fold, or a checkpoint."""
    folds = all_folds(workspace)
    if name is None:
        finished = [fold for fold in folds if _is_finished(fold)]
        if not finished:
            raise CheckpointError(
                "no trained model",
                where=workspace.runs,
                why=f"{len(folds)} runs have begun, none is finished" if folds else "there are no runs",
                fix="medmoe train --method segmote --data NAME, or name a model with -m",
            )
        return finished[0].path
    path = Path(name)
    if path.is_dir() and _is_model(path):
        return path
    shared = workspace.models / str(name)
    if (shared / MODEL_CARD).is_file() and (shared / WEIGHTS).is_file():
        return shared
    matching = [fold for fold in folds if _goes_by(fold, str(name))]
    if not matching and path.is_dir():
        matching = _folds_in(path)
    if matching:
        return _the_one(matching, str(name))
    known = {fold.run for fold in folds} | {fold.dataset for fold in folds} | _shared_names(workspace)
    raise CheckpointError(
        f"unknown model '{name}'",
        where=path if path.is_dir() else workspace.runs,
        why="the folder holds no run and no model.json" if path.is_dir() else did_you_mean(str(name), known),
        fix="medmoe models list",
    )


def _the_one(folds: list[RunFolder], name: str) -> Path:
    """The newest finished run among those of that name; several folds of it must be told apart by the user."""
    finished = [fold for fold in folds if _is_finished(fold)]
    newest = (finished or folds)[0]
    same_run = sorted({fold.name for fold in folds if fold.path.parent == newest.path.parent})
    if len(same_run) > 1:
        raise ConfigError(
            f"'{name}' has several folds",
            why=", ".join(same_run),
            fix=f"name one of them: -m {same_run[0]}; several -m make an ensemble: -m {' -m '.join(same_run)}",
        )
    return newest.path


def _goes_by(fold: RunFolder, name: str) -> bool:
    whole = fold.name.split("/")
    parts = name.strip("/").split("/")
    return any(whole[start : start + len(parts)] == parts for start in range(len(whole)))


def _folds_in(path: Path) -> list[RunFolder]:
    """The folds directly in a run folder given by path, wherever it lies."""
    found = [
        RunFolder(dataset="", method="", run=path.name, fold=fold.name.removeprefix("fold_"), path=fold)
        for fold in sorted(path.glob("fold_*"))
        if _is_model(fold)
    ]
    return sorted(found, key=lambda fold: -fold.changed)


def _is_model(path: Path) -> bool:
    return any((path / name).exists() for name in (MODEL_CARD, MANIFEST, CHECKPOINTS))


def _is_finished(fold: RunFolder) -> bool:
    step = fold.last_step
    if step is None:
        return False
    try:
        return read_state(fold.path / CHECKPOINTS / f"step-{step}")[0].finished
    except CheckpointError:
        return False


def _shared_names(workspace: Workspace) -> set[str]:
    return {
        card.parent.name for card in workspace.models.glob(f"*/{MODEL_CARD}") if _kind(card.parent) in {"model", None}
    }


def _kind(folder: Path) -> str | None:
    """'model' or 'backbone', as model.json says; None when it cannot be read."""
    try:
        content = jsonio.read(folder / MODEL_CARD)
    except DataError:
        return None
    return str(content.get("kind")) if isinstance(content, dict) else None


def _of_run(folder: Path, reporter: Reporter) -> _Parts:
    """A checkpoint, or the best one of a fold."""
    if (folder / MANIFEST).is_file():
        read_manifest(folder)
        checkpoint, fold = folder, folder.parent.parent
    else:
        checkpoint, fold = best_checkpoint(folder, reporter), folder
    config = read_config(fold)
    return _Parts(
        plan=read_plan(fold),
        method=config.method,
        model=config.values["model"],
        predict=config.values["predict"],
        weights=checkpoint / WEIGHTS,
        postprocessing=_rules_of(fold),
    )


def _shared(folder: Path) -> _Parts:
    kind = _kind(folder)
    if kind != "model":
        raise CheckpointError(
            "not a trained model", where=folder, why=f"{MODEL_CARD} says kind {kind!r}", fix="medmoe models list"
        )
    card = read_manifest(folder, name=MODEL_CARD)
    if WEIGHTS not in card["files"]:
        raise CheckpointError(
            "damaged checkpoint",
            where=folder / MODEL_CARD,
            why=f"it does not name {WEIGHTS}",
            fix="copy the model again",
        )
    if card.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            "model of another version",
            where=folder,
            why=f"schema {card.get('schema_version')}, this medmoe reads {SCHEMA_VERSION}",
            fix="use the version that wrote it",
        )
    try:
        return _Parts(
            plan=Plan.model_validate(card["plan"]),
            method=str(card["method"]),
            model=dict(card["model"]),
            predict=dict(card["predict"]),
            weights=folder / WEIGHTS,
            postprocessing=Postprocessing.model_validate(card.get("postprocessing", {})),
            checked=frozenset(card["files"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_config(folder / MODEL_CARD, error) from error


def _build(parts: _Parts) -> LoadedModel:
    found = find_method(parts.method)
    try:
        config = found.config_class().model_validate(parts.model)
        predict = PredictConfig.model_validate(parts.predict)
    except ValidationError as error:
        raise _bad_config(parts.weights.parent, error) from error
    segmenter = found.build(config, parts.plan, restore=True)
    tensors = load_tensors(parts.weights)
    hashes = [file_sha256(parts.weights)]
    for name, prefix in found.part_files(config).items():
        path = parts.weights.parent / name
        if name not in parts.checked:
            raise CheckpointError(
                "damaged checkpoint",
                where=parts.weights.parent / MODEL_CARD,
                why=f"it does not name {name}",
                fix="copy the model again",
            )
        own = load_tensors(path)
        hashes.append(file_sha256(path))
        tensors |= {f"{prefix}{key}": tensor for key, tensor in own.items()}
    report = load_into(segmenter, tensors, where=parts.weights)
    if report.missing or report.unexpected:
        raise CheckpointError(
            "weights do not fit the model",
            where=parts.weights,
            why=f"{report.line()}: {', '.join((*report.missing, *report.unexpected)[:3])}",
            fix="use the version that wrote it",
        )
    return LoadedModel(
        segmenter=segmenter.eval(),
        plan=parts.plan,
        card=found.card,
        config=config,
        predict=predict,
        class_names=parts.plan.class_names,
        source=parts.weights.parent,
        sha256=hashes[0] if len(hashes) == 1 else value_sha256(hashes),
        postprocessing=parts.postprocessing,
    )


def _rules_of(fold: Path) -> Postprocessing:
    """The rules a run has learned; none when its validation has not written them."""
    path = fold / POSTPROCESSING_NAME
    if not path.is_file():
        return Postprocessing()
    try:
        return Postprocessing.model_validate(jsonio.read(path))
    except (DataError, ValidationError) as error:
        raise CheckpointError(
            "cannot read the run's post-processing rules",
            where=path,
            why=" ".join(str(error).split())[:300],
            fix=f"rm {path}, and predict without them",
        ) from error


def _bad_config(where: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "cannot read the model's configuration",
        where=where,
        why=" ".join(str(error).split())[:300],
        fix="use the version that wrote it",
    )
