"""Runs on disk: WORKSPACE/runs/DATASET/METHOD/RUN/fold_N, their names, and the configuration kept in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import SECTION_KEYS, Preset
from medmoe_cli.core.data.stored import read_stored

CONFIG_NAME, PLAN_NAME, DATASET_NAME = "config.resolved.yaml", "plan.json", "dataset.json"
CHECKPOINTS, POSTPROCESSING_NAME = "checkpoints", "postprocessing.json"
_ORIGIN = re.compile(r"^  (?P<key>\w+): .*  # (?P<origin>[^#]*)$")
_SECTION = re.compile(r"^(?P<section>\w+):$")
_RUN_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_STEP = re.compile(r"^step-(\d+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A fold's folder and its names."""

    dataset: str
    method: str
    run: str
    fold: str
    path: Path

    @property
    def name(self) -> str:
        """As `-m` takes it: DATASET/METHOD/RUN/fold_N."""
        return f"{self.dataset}/{self.method}/{self.run}/fold_{self.fold}"

    @property
    def exists(self) -> bool:
        """True once a training has begun there."""
        return (self.path / CONFIG_NAME).is_file()

    @property
    def last_step(self) -> int | None:
        """The newest checkpoint's step, damaged or not; None before the first."""
        found = (_STEP.match(entry.name) for entry in (self.path / CHECKPOINTS).glob("step-*"))
        return max((int(match[1]) for match in found if match), default=None)

    @property
    def changed(self) -> float:
        """When its newest checkpoint was written; 0 without one."""
        step = self.last_step
        return (self.path / CHECKPOINTS / f"step-{step}").stat().st_mtime if step is not None else 0.0


def fold_folder(workspace: Workspace, *, dataset: str, method: str, run: str, fold: str) -> RunFolder:
    """The folder of a fold, there or not.

    Raises:
        ConfigError: a run name that is no plain file name.
    """
    if not _RUN_NAME.match(run):
        raise ConfigError(
            f"bad run name '{run}'",
            where="--name",
            why="it is used as a folder",
            fix="use letters, digits, '.', '_', '-'",
        )
    path = workspace.runs / dataset / method / run / f"fold_{fold}"
    return RunFolder(dataset=dataset, method=method, run=run, fold=fold, path=path)


def next_run_name(workspace: Workspace, *, dataset: str, method: str) -> str:
    """run-001, or the number after the highest there is."""
    numbers = [
        int(entry.name.removeprefix("run-"))
        for entry in (workspace.runs / dataset / method).glob("run-*")
        if entry.name.removeprefix("run-").isdigit()
    ]
    return f"run-{max(numbers, default=0) + 1:03d}"


def all_folds(workspace: Workspace) -> list[RunFolder]:
    """Every fold in which a training has begun, newest first."""
    found = []
    for config in workspace.runs.glob(f"*/*/*/fold_*/{CONFIG_NAME}"):
        fold = config.parent
        found.append(
            RunFolder(
                dataset=fold.parents[2].name,
                method=fold.parents[1].name,
                run=fold.parents[0].name,
                fold=fold.name.removeprefix("fold_"),
                path=fold,
            )
        )
    return sorted(found, key=lambda folder: (-folder.changed, folder.name))


def find_resumable(workspace: Workspace, *, dataset: str, method: str, run: str | None, fold: str) -> RunFolder:
    """The fold to go on with: of the run named, or the newest.

    Raises:
        ConfigError: no such run, or it has no checkpoint: `--resume` never begins a new one.
    """
    candidates = [
        folder
        for folder in all_folds(workspace)
        if (folder.dataset, folder.method, folder.fold) == (dataset, method, fold)
    ]
    chosen = [folder for folder in candidates if run in {None, folder.run}]
    where = workspace.runs / dataset / method
    if not chosen:
        known = [folder.run for folder in candidates]
        raise ConfigError(
            "nothing to resume" if run is None else f"no run '{run}' to resume",
            where=where,
            why=f"fold {fold}: {did_you_mean(run or '', known) if known else 'no run has begun'}",
            fix="train without --resume to begin one",
        )
    if chosen[0].last_step is None:
        raise ConfigError(
            "nothing to resume",
            where=chosen[0].path,
            why="it has no checkpoint",
            fix=f"rm -r {chosen[0].path}, then train without --resume",
        )
    return chosen[0]


def read_config(folder: Path) -> Preset:
    """The configuration of a run, as a preset that carries every value with its origin.

    Raises:
        CheckpointError: config.resolved.yaml is missing or not readable.
    """
    path = folder / CONFIG_NAME
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = yaml.safe_load(text)
        values: Mapping[str, Any] = dict(content)
        method, preset = str(values["method"]), str(values["preset"])
        sections = {section: dict(values[section]) for section in SECTION_KEYS}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            "cannot read the run's configuration",
            where=path,
            why=" ".join(str(error).split()),
            fix="choose another run",
        ) from error
    return Preset(
        name=preset,
        path=path,
        method=method,
        description=f"the configuration of {folder}",
        values={"method": method, **sections},
        origins=_origins(text),
    )


def read_plan(folder: Path) -> Plan:
    """The plan a run was trained with.

    Raises:
        CheckpointError: plan.json is missing or not readable.
    """
    plan = read_stored(folder / PLAN_NAME, Plan)
    if plan is None:
        raise CheckpointError("cannot read the run's plan", where=folder / PLAN_NAME, fix="choose another run")
    return plan


def _origins(text: str) -> dict[str, str]:
    origins: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if match := _SECTION.match(line):
            section = match["section"]
        elif section and (match := _ORIGIN.match(line)):
            origins[f"{section}.{match['key']}"] = match["origin"].strip()
    return origins
