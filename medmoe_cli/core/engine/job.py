"""What a training is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.sections import TrainConfig
from medmoe_cli.core.engine.state import differences
from medmoe_cli.core.engine.validate import Validation
from medmoe_cli.core.imaging.sample import SampleSource
from medmoe_cli.core.nn.segmenter import Segmenter, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A training, as the engine sees it: a network, samples, values; no method's name.

    Attributes:
        segmenter: the network.
        train: training samples; with a seed they are augmented.
        validation: validation samples, or None.
        config: the training section.
        batch_size: images per step and device.
        values: label values in class order.
        class_names: their names.
        folder: of this fold: log.jsonl and checkpoints/ go there.
        identity: 'key' to value of all that must be equal for a resume.
        preprocessing_key: how the samples were made; part of the feature cache's key.
        features: folder of the dataset's feature caches; None turns caching off.
        resume_command: what to type to go on after an interruption.
        stage: train this stage alone, once those before it are done; None for all.
        draw_weights: probability of each training sample at every draw; None to draw each once an epoch.
        after_epoch: called when an epoch's log line is written (redraws progress.png).
    """

    segmenter: Segmenter
    train: SampleSource
    validation: SampleSource | None
    config: TrainConfig
    batch_size: int
    values: tuple[int, ...]
    class_names: tuple[str, ...]
    folder: Path
    identity: Mapping[str, str]
    preprocessing_key: str
    features: Path | None
    resume_command: str
    after_epoch: Callable[[], None]
    stage: str | None = None
    draw_weights: NDArray[np.float64] | None = None

    @property
    def binary(self) -> bool:
        """True when there is one class."""
        return len(self.values) == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a training ended with.

    Attributes:
        steps: updates made in all.
        epochs: epochs closed.
        seconds: training time, resumed parts included.
        checkpoint: the best checkpoint by validation, else the last.
        last: the last checkpoint.
        best_dice: its mean validation Dice; None without validation.
        validation: the last validation; None when nothing was left to train.
        next_stage: the stage that is still to come, when one was trained alone; None at the end.
    """

    steps: int
    epochs: int
    seconds: float
    checkpoint: Path
    last: Path
    best_dice: float | None
    validation: Validation | None
    next_stage: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A stage and its steps: start <= step < end."""

    stage: Stage
    start: int
    end: int


def spans(stages: tuple[Stage, ...], total_steps: int) -> list[Span]:
    """Divide the steps among the stages by their shares; each gets at least one when there are enough."""
    whole = sum(stage.share for stage in stages)
    found: list[Span] = []
    start, shared = 0, 0.0
    for place, stage in enumerate(stages):
        shared += stage.share
        left = len(stages) - place - 1
        wanted = max(round(total_steps * shared / whole), start + 1)
        end = max(start, min(wanted, total_steps - left))
        found.append(Span(stage=stage, start=start, end=end))
        start = end
    return found


def spans_to_run(found: list[Span], only: str | None, *, done: int, resume_command: str) -> list[Span]:
    """The spans up to the one that is wanted alone; all of them where none is.

    Args:
        found: of all stages.
        only: name of the stage to train alone.
        done: steps made so far.
        resume_command: for the error.

    Raises:
        ConfigError: there is no such stage, or one before it is not finished.
    """
    if only is None:
        return found
    names = [span.stage.name for span in found]
    if only not in names:
        raise ConfigError(f"no stage '{only}'", why=did_you_mean(only, names), fix=f"--stage {' or '.join(names)}")
    place = names.index(only)
    if place and done < found[place - 1].end:
        raise ConfigError(
            f"stage '{only}' comes after '{names[place - 1]}'",
            why=f"{done} of its {found[place - 1].end} steps are done",
            fix=f"{resume_command} --stage {names[place - 1]}",
        )
    return found[: place + 1]


# What may change when a run is resumed: it moves work about, not results.
FREE_KEYS = frozenset({"train.workers", "train.checkpoint_minutes", "train.keep_checkpoints"})


def check_identity(saved: Mapping[str, str], now: Mapping[str, str], *, may_prolong: bool, where: Path) -> None:
    """Refuse to go on with something else than what was begun.

    Args:
        saved: from the checkpoint.
        now: of the run that wants to resume.
        may_prolong: the number of epochs or steps may differ too (its learning rates do not depend on it).
        where: the checkpoint.

    Raises:
        CheckpointError: listing every key that differs, with both values.
    """
    free = FREE_KEYS | ({"train.epochs", "train.steps"} if may_prolong else frozenset())
    changed = differences(
        {key: value for key, value in saved.items() if key not in free},
        {key: value for key, value in now.items() if key not in free},
    )
    if changed:
        raise CheckpointError(
            "cannot resume with other settings or data",
            where=where,
            why="; ".join(changed),
            fix="give the same settings, or train a new run with --name NAME",
        )
