"""What `merge-experts` is asked for and what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.merge_report import GENERAL, MergeReport

DEFAULT_STEPS = 300
AUTO = "auto"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedExpert:
    """One `--expert NAME=MODEL`."""

    name: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedData:
    """One `--data [OWNER=]DATASET`; without an owner the experts' plans decide."""

    dataset: str
    owner: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeOptions:
    """What `merge-experts` was asked for; None leaves a value to the models.

    Attributes:
        general: the general model, by name or path; None with `into`.
        experts: to merge, or to add.
        data: datasets that teach the gate; () for those the models were trained on.
        output: the new model's folder; None with `into`.
        into: the merged model that grows.
        tau: 0 to 1, or 'auto'.
        fuse: what of two decoders is fused.
        steps: of the gate's training.
        fold: of every dataset; None for the one the models were trained on.
        device, assignments: as for `train`.
    """

    general: str | None = None
    experts: tuple[NamedExpert, ...]
    data: tuple[OwnedData, ...] = ()
    output: Path | None = None
    into: str | None = None
    tau: float | Literal["auto"] | None = None
    fuse: Literal["logits", "probabilities"] | None = None
    steps: int | None = None
    fold: str | None = None
    device: str = "auto"
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeResult:
    """What `merge-experts` did.

    Attributes:
        folder: of the merged model.
        name: as `-m` takes it.
        experts: all of them, in order.
        added: those that were not there before.
        report: as in report.json.
    """

    folder: Path
    name: str
    experts: tuple[str, ...]
    added: tuple[str, ...]
    report: MergeReport


def parse_experts(texts: Sequence[str]) -> tuple[NamedExpert, ...]:
    """`--expert` values.

    Raises:
        ConfigError: all that are not NAME=MODEL, and names that cannot be files'.
    """
    found, problems = [], list[MedMoEError]()
    for text in texts:
        name, equals, model = text.partition("=")
        if not equals or not name or not model:
            problems.append(
                ConfigError(
                    f"cannot read --expert {text}",
                    why="it is not of the form NAME=MODEL",
                    fix="for instance --expert tumour=runs/tumour/sam-med3d-moe/run-001",
                )
            )
            continue
        found.append(NamedExpert(name=name, model=model))
    raise_all([*problems, *name_problems([expert.name for expert in found])])
    return tuple(found)


def parse_data(texts: Sequence[str]) -> tuple[OwnedData, ...]:
    """`--data` values: DATASET or OWNER=DATASET."""
    found = []
    for text in texts:
        owner, equals, dataset = text.partition("=")
        if equals and not (owner and dataset):
            raise ConfigError(
                f"cannot read --data {text}",
                why="it is neither DATASET nor OWNER=DATASET",
                fix="for instance --data general=hearts",
            )
        found.append(OwnedData(dataset=dataset, owner=owner) if equals else OwnedData(dataset=text))
    return tuple(found)


def parse_tau(text: str | None) -> float | Literal["auto"] | None:
    """`--tau`.

    Raises:
        ConfigError: neither 'auto' nor a number from 0 to 1.
    """
    if text is None:
        return None
    if text == AUTO:
        return "auto"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(
            f"cannot use --tau {text}", why="it is a probability, 0 to 1, or auto", fix="--tau 0.5, or --tau auto"
        )
    return value


def parse_fuse(text: str | None) -> Literal["logits", "probabilities"] | None:
    """`--fuse`.

    Raises:
        ConfigError: an unknown way.
    """
    if text is None:
        return None
    if text == "logits":
        return "logits"
    if text == "probabilities":
        return "probabilities"
    raise ConfigError(
        f"cannot use --fuse {text}",
        why=did_you_mean(text, ("logits", "probabilities")),
        fix="--fuse logits, or --fuse probabilities",
    )


def name_problems(names: Sequence[str], *, taken: Sequence[str] = ()) -> list[ConfigError]:
    """What is wrong with experts' names: each names a file, and one of the gate's answers.

    Args:
        names: new ones.
        taken: those the merged model has.
    """
    problems = []
    seen = {name.casefold(): name for name in taken}
    for name in names:
        why = ""
        if not _FILE_NAME.fullmatch(name):
            why = "it becomes a file's name: letters, digits, '.', '_', '-', beginning with a letter or digit"
        elif name.casefold() == GENERAL:
            why = "that is the general model's own name"
        elif name.casefold() in seen:
            other = seen[name.casefold()]
            why = "an expert has that name" if other == name else f"it differs from '{other}' in capitals alone"
        seen[name.casefold()] = name
        if why:
            problems.append(ConfigError(f"cannot use the expert name '{name}'", why=why, fix="choose another NAME"))
    return problems
