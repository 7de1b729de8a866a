"""What a training is made with: preset, configuration and plan; a resumed run has its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import Resolved
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.workflows.configure import ChosenPreset, choose_preset, configure
from medmoe_cli.core.workflows.model_files.run_folder import RunFolder, find_resumable, read_config, read_plan
from medmoe_cli.core.workflows.plan import Planned, ensure_plan
from medmoe_cli.core.workflows.train_options import TrainOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """How a training is configured.

    Attributes:
        begun: the run that is resumed; None for a new one.
        chosen: the preset, and why.
        resolved: every value.
    """

    begun: RunFolder | None
    chosen: ChosenPreset
    resolved: Resolved


def set_up(workspace: Workspace, dataset: Dataset, options: TrainOptions) -> Setup:
    """Configure a training: by the named preset, or the run's own configuration, or as for every verb.

    Raises:
        ConfigError: options, preset or keys.
        CheckpointError: nothing to resume.
    """
    begun = None
    if options.resume:
        begun = find_resumable(
            workspace, dataset=dataset.name, method=options.method, run=options.name, fold=options.fold
        )
    if begun is not None and options.preset is None:
        chosen = ChosenPreset(preset=read_config(begun.path), why="the run's own configuration")
    else:
        chosen = choose_preset(workspace, options.method, options.preset)
    flags: dict[str, tuple[str, Any]] = {
        "train.epochs": ("--epochs", options.epochs),
        "train.steps": ("--steps", options.steps),
        "train.precision": ("--precision", options.precision),
    }
    resolved = configure(chosen, assignments=options.assignments, flags=flags)
    return Setup(begun=begun, chosen=chosen, resolved=resolved)


def plan_training(
    setup: Setup, *, workspace: Workspace, dataset: Dataset, options: TrainOptions, reporter: Reporter
) -> Planned:
    """The plan: a resumed run keeps its own, as long as it fits the data and what was asked for now.

    Raises:
        CheckpointError: it does not.
    """
    planned = ensure_plan(
        workspace=workspace,
        dataset=dataset,
        method=options.method,
        preset=setup.resolved.preset,
        overrides=setup.resolved.plan,
        device=options.device,
        workers=workers_of(setup.resolved),
        reporter=reporter,
        write=not options.dry_run,
    )
    if setup.begun is None:
        return planned
    own = read_plan(setup.begun.path)
    if own.fingerprint_sha256 != planned.plan.fingerprint_sha256:
        raise CheckpointError(
            "cannot resume with other settings or data",
            where=setup.begun.path,
            why=f"data.fingerprint: {own.fingerprint_sha256[:16]} then, {planned.plan.fingerprint_sha256[:16]} now",
            fix="restore the dataset, or train a new run with --name NAME",
        )
    return replace(planned, plan=own)


def begins(stage: str, plan: Plan, resolved: Resolved) -> bool:
    """True when that is the method's first stage; its network is laid out without memory to tell.

    Raises:
        ConfigError: no stage of that name.
    """
    with torch.device("meta"):
        stages = find_method(plan.method).build(resolved.model, plan, restore=True).stages()
    names = [one.name for one in stages]
    if stage not in names:
        raise ConfigError(f"no stage '{stage}'", why=did_you_mean(stage, names), fix=f"--stage {' or '.join(names)}")
    return stage == names[0]


def workers_of(resolved: Resolved) -> int | None:
    """Processes for checking and preprocessing: none where training has none, else what they choose."""
    return None if resolved.train.workers else 1
