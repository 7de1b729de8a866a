"""What `train` is asked for and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.engine.job import Trained
from medmoe_cli.core.engine.measure import StepCost
from medmoe_cli.core.nn.segmenter import ParameterGroup
from medmoe_cli.core.workflows.scoring.validate import Validation


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """What `train` was asked for; None leaves a value to the configuration.

    Attributes:
        stage: train this stage alone. The first begins a run; a later one goes on with the newest, or the one
            named.
    """

    data: str
    method: str
    preset: str | None = None
    fold: str = "0"
    name: str | None = None
    resume: bool = False
    stage: str | None = None
    epochs: int | None = None
    steps: int | None = None
    device: str = "auto"
    devices: int = 1
    precision: str | None = None
    assignments: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StageParameters:
    """The parameter report of one stage."""

    stage: str
    groups: tuple[ParameterGroup, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What `train` did.

    Attributes:
        run: DATASET/METHOD/RUN/fold_N; '' for a dry run.
        folder: of the fold; None for a dry run.
        preset: its name, and why it was taken ('' when it was named).
        plan: the plan.
        parameters: per stage.
        num_train, num_validation: samples; None when a dry run cannot know.
        trained: of the engine; None for a dry run.
        validation: at native resolution; None for a dry run.
        step_cost: of a dry run.
        total_steps: of the whole training; None when a dry run cannot know.
        is_main: False on the other processes of a distributed training.
    """

    run: str
    folder: Path | None
    preset: str
    preset_why: str
    plan: Plan
    parameters: tuple[StageParameters, ...]
    num_train: int | None
    num_validation: int | None
    trained: Trained | None
    validation: Validation | None
    step_cost: StepCost | None
    total_steps: int | None
    is_main: bool
