"""What the label values mean: names, regions, the ignored value and patients, from a dataset.json nearby."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.vocabulary import match_names
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances

FILE_NAME = "dataset.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelNames:
    """What a dataset.json says about label maps.

    Attributes:
        classes: names and values, background excluded; None when no file was found.
        ignore: the value that nnU-Net calls 'ignore'; its voxels are not scored.
        patients: case to patient.
        origin: the file; None when none was found.
    """

    classes: tuple[ScoredClass, ...] | None = None
    ignore: int | None = None
    patients: Mapping[str, str] = field(default_factory=dict)
    origin: Path | None = None


def find_label_names(dataset: Path | None, nearby: Sequence[Path]) -> LabelNames:
    """Read the dataset's own dataset.json, else the first one in or beside the folders `nearby`.

    Raises:
        DataError: the file cannot be used, or the dataset has none.
    """
    if dataset is not None:
        return _read(dataset if dataset.is_file() else dataset / FILE_NAME)
    for place in nearby:
        for folder in (place, place.resolve().parent):
            if (folder / FILE_NAME).is_file():
                return _read(folder / FILE_NAME)
    return LabelNames()


def classes_of_values(values: Sequence[int]) -> tuple[ScoredClass, ...]:
    """Classes named by their values, where nobody named them."""
    return tuple(ScoredClass(name=str(value), values=(value,)) for value in sorted(values) if value != 0)


def renumbering(predictions: Path, classes: Sequence[ScoredClass]) -> dict[int, int]:
    """Values of the predictions to those of the references, where a dataset.json beside the predictions names them.

    A model of several datasets numbers its classes otherwise than each of them; what only it knows becomes 0.

    Args:
        predictions: folder or file.
        classes: as the references have them.

    Returns:
        Empty where both number alike, or nothing names the predictions' values one by one.

    Raises:
        DataError: the file cannot be used.
    """
    path = (predictions.parent if predictions.is_file() else predictions) / FILE_NAME
    if not path.is_file():
        return {}
    own = {scored.name: scored.values for scored in _read(path).classes or ()}
    wanted = {scored.name: scored.values for scored in classes}
    meant = match_names(tuple(wanted), tuple(own), members=_member_classes(path))
    single = all(len(values) == 1 for values in (*own.values(), *wanted.values()))
    if not single or all(own[there] == wanted[here] for here, there in meant.items()):
        return {}
    numbers = {values[0]: 0 for values in own.values()}
    for here, there in reversed(meant.items()):
        numbers[own[there][0]] = wanted[here][0]
    return numbers


def _member_classes(path: Path) -> dict[str, dict[str, str]]:
    """What the members of a collection call the classes, as `predict` leaves it beside masks."""
    found = jsonio.read(path).get("member_classes", {})
    if not isinstance(found, dict) or not all(isinstance(classes, dict) for classes in found.values()):
        return {}
    return {member: {str(own): str(name) for own, name in classes.items()} for member, classes in found.items()}


def check_tolerances(tolerances: Tolerances, classes: Sequence[ScoredClass]) -> Tolerances:
    """Tolerances by class name (a class may be meant by its value too).

    Raises:
        ConfigError: a name that no class has.
    """
    names = {scored.key: scored.name for scored in classes} | {scored.name: scored.name for scored in classes}
    for name in tolerances.by_name_mm:
        if name not in names:
            raise ConfigError(
                f"no class is called '{name}'",
                where="--tolerance-mm",
                fix=did_you_mean(name, [scored.name for scored in classes]),
            )
    return Tolerances(
        default_mm=tolerances.default_mm,
        by_name_mm={names[name]: value for name, value in tolerances.by_name_mm.items()},
    )


def _read(path: Path) -> LabelNames:
    content = jsonio.read(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        raise DataError("no labels", where=path, why="it has no object 'labels'", fix="edit 'labels' in the file")
    by_name = _by_name(labels)
    classes, wrong = [], []
    ignore: int | None = None
    for name, value in by_name.items():
        values = tuple(value) if isinstance(value, list) else (value,)
        if not values or any(type(part) is not int or part < 0 for part in values):
            wrong.append(f"{name!r}: {value!r}")
        elif name == "ignore" and len(values) == 1:
            ignore = values[0]
        elif values != (0,):
            classes.append(ScoredClass(name=name, values=tuple(part for part in values if part)))
    if wrong or not classes:
        raise DataError(
            "labels that cannot be used",
            where=path,
            why=f"not whole numbers: {', '.join(wrong)}" if wrong else "there is no foreground",
            fix="edit 'labels' in the file",
        )
    patients = content.get("patients", {})
    return LabelNames(
        classes=tuple(sorted(classes, key=lambda scored: scored.values)),
        ignore=ignore,
        patients={str(case): str(patient) for case, patient in patients.items()} if isinstance(patients, dict) else {},
        origin=path,
    )


def _by_name(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Name to value; nnU-Net v1 and the Medical Segmentation Decathlon write value to name."""
    if labels and all(key.strip().isdigit() and isinstance(name, str) for key, name in labels.items()):
        return {name: int(key) for key, name in labels.items()}
    return dict(labels)
