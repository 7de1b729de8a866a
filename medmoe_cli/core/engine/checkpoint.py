"""Checkpoints: `step-N/{model.safetensors, optimizer.safetensors, state.json, MANIFEST.json}`.

A folder appears whole or not at all, its manifest is its commit mark, and `latest` is computed: the newest that is
undamaged. `model.safetensors` holds the weights that predict (the averaged ones when averaging is on);
`optimizer.safetensors` holds what a resume needs besides.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.atomic import failpoint
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.engine.manifest import read_manifest, write_manifest
from medmoe_cli.core.engine.state import SCHEMA_VERSION, TrainState
from medmoe_cli.core.nn.weights import load_tensors, save_tensors

_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Everything a checkpoint holds.

    Attributes:
        model: tensors by parameter or buffer name.
        optimizer: 'NAME/exp_avg' and the like; 'raw/NAME' the weights in training when `model` is their average.
        state: where the training stands.
        identity: what must be equal for a resume, 'key' to value.
    """

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: TrainState
    identity: Mapping[str, str]


class Checkpoints:
    """The checkpoints of one fold."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def path(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / f"{_PREFIX}{step}"

    def steps(self) -> list[int]:
        """Steps that have a folder, oldest first, damaged or not."""
        names = (entry.name.removeprefix(_PREFIX) for entry in self.folder.glob(f"{_PREFIX}*") if entry.is_dir())
        return sorted(int(name) for name in names if name.isdigit())

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint, then remove those that are neither the newest nor the best.

        Raises:
            ResourceError: no space; the previous checkpoints are untouched.
        """

        def fill(folder: Path) -> None:
            facts = {"step": str(snapshot.state.step)}  # one key: safetensors writes several in any order
            save_tensors(folder / "model.safetensors", snapshot.model, facts)
            failpoint("between-files")
            save_tensors(folder / "optimizer.safetensors", snapshot.optimizer, facts)
            jsonio.write(
                folder / "state.json",
                {"schema_version": SCHEMA_VERSION, "state": snapshot.state, "identity": snapshot.identity},
            )
            failpoint("pre-manifest")
            write_manifest(
                folder, facts={"kind": "checkpoint", "torch": torch.__version__, "step": snapshot.state.step}
            )

        path = atomic.replace_dir(self.path(snapshot.state.step), fill)
        self.prune(best_step=snapshot.state.best_step)
        return path

    def prune(self, *, best_step: int | None) -> None:
        """Keep the newest `keep` and the best; each other one disappears in one rename."""
        steps = self.steps()
        for step in steps[: -self.keep]:
            if step == best_step:
                continue
            failpoint("pre-prune")
            gone = atomic.temporary_sibling(self.path(step))
            self.path(step).rename(gone)
            failpoint("mid-prune")
            shutil.rmtree(gone, ignore_errors=True)

    def latest(self, reporter: Reporter) -> Path | None:
        """The newest undamaged checkpoint; damaged ones are reported and passed over. None when there is none.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        last: CheckpointError | None = None
        for step in reversed(self.steps()):
            try:
                read_manifest(self.path(step))
            except CheckpointError as error:
                reporter.warn(f"{error.what} in {error.where}: {error.why}; using the one before")
                last = error
                continue
            return self.path(step)
        if last is not None:
            raise last
        return None


def read_state(folder: Path) -> tuple[TrainState, dict[str, str]]:
    """The state and the identity of a checkpoint.

    Raises:
        CheckpointError: absent, damaged or of another schema.
    """
    try:
        value: Any = jsonio.read(folder / "state.json")
        if value["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                "checkpoint of another version",
                where=folder,
                why=f"state schema {value['schema_version']}, this medmoe reads {SCHEMA_VERSION}",
                fix="resume with the version that wrote it",
            )
        identity = {str(key): str(item) for key, item in value["identity"].items()}
        return TrainState.from_json(value["state"]), identity
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            "damaged checkpoint", where=folder / "state.json", why=str(error), fix="use another checkpoint"
        ) from error


def read_snapshot(folder: Path) -> Snapshot:
    """Read a checkpoint whole; its files are checked against the manifest first.

    Raises:
        CheckpointError: unfinished or damaged.
    """
    read_manifest(folder)
    state, identity = read_state(folder)
    return Snapshot(
        model=load_tensors(folder / "model.safetensors"),
        optimizer=load_tensors(folder / "optimizer.safetensors"),
        state=state,
        identity=identity,
    )
