"""validation/summary.json and prompts.json read back: the numbers of a validation, as their writers defined them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StatisticRead(_Read):
    """A metric's mean with its 95 % confidence interval and how many values it rests on."""

    mean: float | None
    median: float | None = None
    ci95: tuple[float, float] | None = None
    n_used: int
    n_total: int


class ClassRead(_Read):
    """One class over all cases."""

    name: str
    n_true_negative: int
    n_missed: int
    n_false_positive: int
    n_units: int
    metrics: dict[str, StatisticRead]


class UnitRead(_Read):
    """One case: metric values by class key and metric name; `presence` stands among them."""

    case: str
    slice: int | None = None
    reference_file: Path
    prediction_file: Path
    metrics: dict[str, dict[str, float | str | None]]

    def value(self, key: str, metric: str) -> float | None:
        """A class's metric; None where it is undefined or the class is absent from both masks."""
        found = self.metrics.get(key, {}).get(metric)
        return found if isinstance(found, float | int) and math.isfinite(found) else None

    def mean(self, metric: str) -> float | None:
        """Over the classes for which it is defined."""
        values = [value for key in self.metrics if (value := self.value(key, metric)) is not None]
        return sum(values) / len(values) if values else None


class ConventionRead(_Read):
    """How it was scored."""

    name: str
    description: str


class SummaryRead(_Read):
    """summary.json."""

    convention: ConventionRead
    labels: dict[str, str]
    tolerance_mm: dict[str, float] | None = None
    n_cases: int
    overall: dict[str, StatisticRead]
    classes: dict[str, ClassRead]
    metric_per_case: tuple[UnitRead, ...] = Field(min_length=1)


def read_summary(path: Path) -> SummaryRead:
    """Read a summary.

    Raises:
        DataError: it is there but is no summary.
    """
    return _read(path, SummaryRead, fix=f"medmoe evaluate -p {path.parent / 'masks'} -g REFERENCES -o {path}")


class WayRead(_Read):
    """How one way of asking did on instances (one class on one slice); 'ellipse' is a baseline without a network."""

    way: str
    mean_dice: float
    dice_per_class: dict[str, float]
    num_instances: int


class PromptingRead(_Read):
    """prompts.json: what the masks were made from, and how the ways of asking compare."""

    masks_prompted_by: str
    ways: tuple[WayRead, ...] = ()


def read_prompting(path: Path) -> PromptingRead:
    """Read prompts.json.

    Raises:
        DataError: it is there but is not what training writes.
    """
    return _read(path, PromptingRead, fix="train again, or delete it to have the report without it")


_Kind = TypeVar("_Kind", bound=_Read)


def _read(path: Path, kind: type[_Kind], *, fix: str) -> _Kind:
    try:
        return kind.model_validate(jsonio.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError("not what it should be", where=path, why=f"{place}: {first['msg']}", fix=fix) from error
