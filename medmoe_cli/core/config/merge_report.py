"""`report.json` of a merged model: what merging gained, what it cost, and who was asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medmoe_cli.core.config.sections import Section

GENERAL = "general"
Way = Literal["points", "box"]


class MergedData(Section):
    """A dataset that taught the gate or was scored.

    Attributes:
        dataset: its name.
        owner: 'general' or the name of the expert whose task it is.
        fold: its training cases taught the gate, its validation cases were scored.
        training, held_out: numbers of samples (a case and one of its classes).
    """

    dataset: str
    owner: str
    fold: str
    training: int
    held_out: int


class TaskScore(Section):
    """Mean Dice of one task, asked in one way, over its held-out samples.

    Attributes:
        dataset, class_name: the task.
        owner: 'general' or the expert whose task it is.
        way: 'points': a central click and corrections; 'box': a tight box.
        n: samples.
        general: of the general model.
        expert: of its expert alone; None for tasks of the general model.
        merged: of the merged model.
    """

    dataset: str
    class_name: str
    owner: str
    way: Way
    n: int
    general: float
    expert: float | None
    merged: float

    @property
    def task(self) -> str:
        """'dataset: class'."""
        return f"{self.dataset}: {self.class_name}"


class Routed(Section):
    """Whom the selector chose, over all scored queries of both ways.

    Attributes:
        owners: 'general' and the experts in order: rows and columns of `counts`.
        counts: true owner by chosen one; a selector that stayed shut chose 'general'.
    """

    owners: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def opening(self) -> dict[str, float | None]:
        """Share of each owner's queries at which the selector opened; None where there are none."""
        return {
            owner: 1 - row[0] / sum(row) if sum(row) else None
            for owner, row in zip(self.owners, self.counts, strict=True)
        }


class LeftOut(Section):
    """What the merged model loses without one expert.

    Attributes:
        expert: the one left out.
        deltas: change of the mean Dice over both ways, by owner of the tasks.
    """

    expert: str
    deltas: dict[str, float]


class TauPoint(Section):
    """The merged model at one threshold, on samples held out of the gate's training.

    Attributes:
        tau: the threshold.
        dice: mean over tasks.
        forgetting: merged minus general, mean over the general model's tasks.
        opened: share of the queries at which an expert joined.
    """

    tau: float
    dice: float
    forgetting: float
    opened: float


class GateTraining(Section):
    """How the gate learned.

    Attributes:
        steps, learning_rate, seed: of the training.
        grown_from: number of experts the gate knew before; 0 for a fresh one.
        samples: by owner.
        loss: of the last log line, by part.
    """

    steps: int
    learning_rate: float
    seed: int
    grown_from: int
    samples: dict[str, int]
    loss: dict[str, float]


class MergeReport(Section):
    """The whole report.

    Attributes:
        general: sha256 of the weights file of the general model.
        experts: names in order, with the sha256 of their weights files.
        data: datasets by owner.
        grid: where Dice was measured.
        clicks: of the way 'points', the first one included.
        tau, tau_why: the threshold and who chose it.
        tau_curve: what `--tau auto` chose from.
        gate: how the gate learned.
        tasks: scores.
        forgetting: merged minus general, mean over the general model's tasks, by way.
        gain_kept: by expert, the share of its gain over the general model that the merged model keeps, over its tasks
            and both ways; None where the expert gained nothing.
        routing: whom the selector chose.
        opening: share of each owner's queries at which the selector opened.
        left_out: the merged model without each expert.
    """

    schema_version: int = 1
    general: str
    experts: dict[str, str]
    data: tuple[MergedData, ...]
    grid: Literal["network", "native"]
    clicks: int
    tau: float
    tau_why: str
    tau_curve: tuple[TauPoint, ...] = ()
    gate: GateTraining
    tasks: tuple[TaskScore, ...] = ()
    forgetting: dict[str, float] = Field(default_factory=dict)
    gain_kept: dict[str, float | None] = Field(default_factory=dict)
    routing: Routed
    opening: dict[str, float | None] = Field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
