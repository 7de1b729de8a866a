"""What a report is made from: the files of a run, read strictly, those that are absent being None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.presets import Preset
from medmoe_cli.core.config.routing_use import RoutingUse
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.models.registry import card as find_card
from medmoe_cli.core.reporting.curves import Curves, read_log
from medmoe_cli.core.reporting.palette import class_colours
from medmoe_cli.core.reporting.summary_file import PromptingRead, SummaryRead, read_prompting, read_summary
from medmoe_cli.core.workflows.model_files.model_folder import find_model
from medmoe_cli.core.workflows.model_files.run_folder import CHECKPOINTS, CONFIG_NAME, read_config, read_plan

_DATASET_FILE = "dataset.json"


class TrainRecord(BaseModel):
    """run.json of the training."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verb: str
    started: str
    seconds: float
    seed: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    arguments: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSources:
    """A run's files. None where the run has none.

    Attributes:
        fold: the fold's folder.
        plan, config, card: of the run and its method.
        record: of the training.
        curves: of log.jsonl.
        summary: of the validation cases.
        prompting: what validation masks were made from; automatic methods have none.
        rules: of postprocessing.json.
        routing: of validation/routing.json.
    """

    fold: Path
    plan: Plan
    config: Preset
    card: Card
    record: TrainRecord | None
    curves: Curves
    summary: SummaryRead | None
    prompting: PromptingRead | None
    rules: Postprocessing | None
    routing: RoutingUse | None

    @property
    def name(self) -> str:
        """DATASET/METHOD/RUN/fold_N."""
        return f"{self.plan.dataset}/{self.plan.method}/{self.fold.parent.name}/{self.fold.name}"

    @property
    def fold_name(self) -> str:
        """'0', or 'all'."""
        return self.fold.name.removeprefix("fold_")

    @property
    def class_names(self) -> Mapping[int, str]:
        """By label value."""
        return {value: name for name, value in self.plan.labels.items()}

    @property
    def colours(self) -> Mapping[int, str]:
        """By label value."""
        return class_colours(self.plan.labels.values())


def find_fold(name: str, *, workspace: Workspace) -> Path:
    """The fold that a run's name or path leads to.

    Raises:
        ConfigError: a name of several folds, or a shared model, which carries no training.
        CheckpointError: no such run.
    """
    path = Path(name)
    found = path if (path / CONFIG_NAME).is_file() else find_model(name, workspace=workspace)
    if found.parent.name == CHECKPOINTS:
        found = found.parent.parent
    if not (found / CONFIG_NAME).is_file():
        raise ConfigError(
            "not a run",
            where=found,
            why="a shared model carries neither its training nor its validation",
            fix="medmoe models list",
        )
    return found.resolve()


def read_sources(fold: Path) -> RunSources:
    """Read a fold's files.

    Raises:
        CheckpointError: its plan or configuration cannot be read.
        DataError: another of its files is there but damaged.
    """
    validation = fold / "validation"
    plan = read_plan(fold)
    summary, prompts = validation / "summary.json", validation / "prompts.json"
    return RunSources(
        fold=fold,
        plan=plan,
        config=read_config(fold),
        card=find_card(plan.method),
        record=_train_record(fold),
        curves=read_log(fold / "log.jsonl"),
        summary=read_summary(summary) if summary.is_file() else None,
        prompting=read_prompting(prompts) if prompts.is_file() else None,
        rules=_optional(fold / "postprocessing.json", Postprocessing),
        routing=_optional(validation / "routing.json", RoutingUse),
    )


def find_dataset(sources: RunSources, *, workspace: Workspace) -> Dataset:
    """The dataset that the run learned from: where validation read it, else by its name.

    Raises:
        DataError: it is not there any more, or has become unusable.
    """
    if sources.summary is not None and not sources.plan.members:
        root = sources.summary.metric_per_case[0].reference_file.parent.parent
        if (root / _DATASET_FILE).is_file():
            return open_dataset(root)
    return open_dataset(workspace.dataset(sources.plan.dataset))


_Kind = TypeVar("_Kind", bound=BaseModel)


def _optional(path: Path, kind: type[_Kind]) -> _Kind | None:
    if not path.is_file():
        return None
    try:
        return kind.model_validate(jsonio.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            "not what it should be",
            where=path,
            why=f"{place}: {first['msg']}",
            fix="restore it, or delete it to have the report without it",
        ) from error


def _train_record(fold: Path) -> TrainRecord | None:
    """Of the training; another verb's record may have taken its name."""
    for name in ("run.json", "run.train.json"):
        found = _optional(fold / name, TrainRecord)
        if found is not None and found.verb == "train":
            return found
    return None
