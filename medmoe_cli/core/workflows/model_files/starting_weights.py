"""The weights a training starts from: those of an added backbone, or of a model that was trained before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import RECORD_FILE
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.nn.backbones import load_backbone
from medmoe_cli.core.workflows.model_files.model_folder import find_model, load_model


def starting_tensors(name: str, *, workspace: Workspace, plan: Plan, reporter: Reporter) -> Mapping[str, Tensor]:
    """The tensors of a name or path.

    Args:
        name: of an added backbone, or of a trained model as `-m` takes it: a run, one of its folds, a shared model.
        workspace: where names resolve.
        plan: of the training; a trained model must have seen images made the same way, one of a collection those of
            one member.
        reporter: told of damaged checkpoints that were passed over, and what is started from.

    Raises:
        ConfigError: a name of several folds.
        CheckpointError: nothing of that name, damaged, or a model of other images than the plan's.
    """
    backbone = _backbone_folder(name, workspace)
    if backbone is not None:
        return load_backbone(backbone)
    try:
        found = find_model(name, workspace=workspace)
    except CheckpointError as error:
        raise CheckpointError(
            f"no backbone or trained model '{name}'",
            where=workspace.models,
            why=f"it has not been added, and {error.why or error.what}",
            fix=f"medmoe models add {name} CHECKPOINT, or medmoe models list to see those there are",
        ) from error
    model = load_model(found, workspace=workspace, reporter=reporter)
    nearest = _nearest(model.plan, plan)
    differing = _differences(nearest, plan)
    if differing:
        raise CheckpointError(
            f"model '{name}' knows other images",
            where=model.source,
            why="; ".join(differing.values()),
            fix=_as_theirs(nearest, differing),
        )
    reporter.info(f"starting from {model.source}")
    return model.segmenter.state_dict()


def _backbone_folder(name: str, workspace: Workspace) -> Path | None:
    """Where an added backbone of that name or path lies; None when it is something else."""
    for folder in (workspace.models / name, Path(name)):
        if (folder / RECORD_FILE).is_file() and not _is_trained(folder):
            return folder
    return None


def _is_trained(folder: Path) -> bool:
    """Its record says so; one that cannot be read says nothing, and is refused where a backbone's is checked."""
    try:
        record = jsonio.read(folder / RECORD_FILE)
    except DataError:
        return False
    return isinstance(record, dict) and record.get("kind") == "model"


def _nearest(theirs: Plan, ours: Plan) -> Plan:
    """The model's plan, or that of a member of its collection: the first of those that differ from ours the least."""
    return min((theirs, *(member.plan for member in theirs.members)), key=lambda plan: len(_differences(plan, ours)))


def _differences(theirs: Plan, ours: Plan) -> dict[str, str]:
    """Each key that shapes the network's input and differs: both values, said."""
    pairs = {
        "dims": (theirs.dims, ours.dims),
        "input_size": (theirs.input_size, ours.input_size),
        "spacing_mm": (theirs.spacing_mm, ours.spacing_mm),
        "normalization": (_kinds(theirs), _kinds(ours)),
    }
    return {key: f"{key}: {one} there, {other} here" for key, (one, other) in pairs.items() if one != other}


def _as_theirs(theirs: Plan, differing: Collection[str]) -> str:
    """What to set so that the data are planned as the model's were."""
    settable: dict[str, object] = {"input_size": theirs.input_size}
    if theirs.spacing_mm is not None:
        settable["spacing_mm"] = "[" + ",".join(f"{side:g}" for side in theirs.spacing_mm) + "]"
    if len({channel.normalization for channel in theirs.channels}) == 1:
        settable["normalization"] = theirs.channels[0].normalization
    if not set(differing) <= set(settable):
        return "train from a model of the same kind of images"
    return " ".join(f"--set plan.{key}={settable[key]}" for key in differing)


def _kinds(plan: Plan) -> str:
    """Of each channel; one for three alike, since a grey image is shown as a coloured one."""
    kinds = [channel.normalization for channel in plan.channels]
    return ", ".join(kinds[:1] if len(kinds) == 3 and len(set(kinds)) == 1 else kinds)
