"""Folds by patient, in nnU-Net's `splits_final.json` format.

A collection has one fold: of each member the share of patients that its `split` rule holds out, or, where the member
has official folds, the first of them; its cases are called MEMBER/CASE.

The file in the dataset's folder wins, then the one in the preprocessed folder; without either, five folds are made
the way nnU-Net makes them (shuffled with seed 12345), but over patients instead of cases. Where every case is its own
patient the folds are therefore nnU-Net's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError, raise_all
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.data.dataset import Dataset

FILE_NAME = "splits_final.json"
NUM_FOLDS = 5
_NNUNET_SEED = 12345
_SHOWN = 5


class Split(NamedTuple):
    """One fold's case ids, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def split(dataset: Dataset, fold: int | str, *, folder: Path | None = None) -> Split:
    """The training and validation cases of a fold.

    Args:
        dataset: its labelled cases are split.
        fold: 0-based, or 'all' to train and validate on everything.
        folder: the dataset's preprocessed folder; folds that have to be made are written there.

    Raises:
        ConfigError: there is no such fold.
        DataError: the splits file is not usable; every problem is reported.
    """
    if str(fold) == "all":
        everything = tuple(case.id for case in dataset.training)
        return Split(everything, everything)
    if not str(fold).isdecimal():
        raise ConfigError(
            f"unknown fold '{fold}'", where=dataset.name, why="a fold is a number or 'all'", fix="--fold 0"
        )
    folds = all_splits(dataset, folder=folder)
    if not folds:
        raise DataError(
            "cannot hold out a patient",
            where=dataset.name,
            why=f"its {len(dataset.training)} cases are of one patient",
            fix="train with --fold all, or add the 'patients' key to dataset.json",
        )
    if int(fold) >= len(folds):
        raise ConfigError(
            f"no fold {fold}",
            where=dataset.name,
            why=f"there are {len(folds)} folds, 0 to {len(folds) - 1}",
            fix="--fold 0",
        )
    return folds[int(fold)]


def all_splits(dataset: Dataset, *, folder: Path | None = None) -> tuple[Split, ...]:
    """Every fold: read from an existing file, else made (and written when `folder` is given).

    Raises:
        DataError: an existing file names unknown cases, puts a patient on both sides, or is no splits file.
    """
    for place in (dataset.root, folder):
        if place is not None and (place / FILE_NAME).is_file():
            return read_splits(place / FILE_NAME, dataset)
    made = collection_splits(dataset) if dataset.members else _made(dataset)
    if folder is not None and made:
        jsonio.write(folder / FILE_NAME, [{"train": fold.train, "val": fold.validation} for fold in made])
    return made


def collection_splits(dataset: Dataset) -> tuple[Split, ...]:
    """A collection's one fold; none when no member can hold a patient out.

    Raises:
        DataError: a member's official splits are not usable.
    """
    assert dataset.split_rule is not None
    train: list[str] = []
    validation: list[str] = []
    for member in dataset.members:
        own = member.dataset
        if dataset.split_rule.official and (own.root / FILE_NAME).is_file():
            held_out = set(read_splits(own.root / FILE_NAME, own)[0].validation)
            taken = set(read_splits(own.root / FILE_NAME, own)[0].train) | held_out
        else:
            patients = held_out_patients(
                sorted({case.patient for case in own.training}),
                share=dataset.split_rule.held_out,
                seed=derive_seed(dataset.split_rule.seed, member.name),
            )
            held_out = {case.id for case in own.training if case.patient in patients}
            taken = {case.id for case in own.training}
        for case in own.training:
            if case.id in taken:
                (validation if case.id in held_out else train).append(member.case_id(case.id))
    if not validation or not train:
        return ()
    return (Split(tuple(sorted(train)), tuple(sorted(validation))),)


def held_out_patients(patients: Sequence[str], *, share: float, seed: int) -> frozenset[str]:
    """That share of the patients, rounded, at least one; none of a single patient.

    Each patient's place in the draw is its own: another patient more or less moves no one else about.
    """
    if len(patients) < 2:
        return frozenset()
    number = min(max(1, round(share * len(patients))), len(patients) - 1)
    return frozenset(sorted(patients, key=lambda patient: (derive_seed(seed, patient), patient))[:number])


def _made(dataset: Dataset) -> tuple[Split, ...]:
    return make_splits({case.id: case.patient for case in dataset.training})


def make_splits(patients: Mapping[str, str], num_folds: int = NUM_FOLDS) -> tuple[Split, ...]:
    """Split cases into folds so that no patient is on both sides of one.

    Args:
        patients: case id to patient.
        num_folds: as many as there are patients when those are fewer.

    Returns:
        The folds, or none when there is only one patient.
    """
    names = sorted(set(patients.values()))
    num_folds = min(num_folds, len(names))
    if num_folds < 2:
        return ()
    order = np.arange(len(names))
    np.random.RandomState(_NNUNET_SEED).shuffle(order)  # the legacy stream: nnU-Net's folds come from it
    cases = sorted(patients)
    folds = []
    for part in np.array_split(order, num_folds):
        held_out = {names[index] for index in part}
        folds.append(
            Split(
                tuple(case for case in cases if patients[case] not in held_out),
                tuple(case for case in cases if patients[case] in held_out),
            )
        )
    return tuple(folds)


def read_splits(path: Path, dataset: Dataset) -> tuple[Split, ...]:
    """Read and validate a splits file.

    Raises:
        DataError: all problems together.
    """
    content = jsonio.read(path)
    if not _is_splits(content):
        raise DataError(
            "not a splits file",
            where=path,
            why='expected a list of {"train": [case ids], "val": [case ids]}',
            fix=f"correct it, or delete {path} to have folds made",
        )
    patients = {case.id: case.patient for case in dataset.training}
    problems: list[MedMoEError] = []
    for fold, entry in enumerate(content):
        problems += _problems(path, fold, entry["train"], entry["val"], patients)
    raise_all(problems)
    return tuple(Split(tuple(sorted(entry["train"])), tuple(sorted(entry["val"]))) for entry in content)


def unassigned(splits: Sequence[Split], dataset: Dataset) -> tuple[str, ...]:
    """Labelled cases that no fold uses (added to the dataset after the splits were made)."""
    used = {case for fold in splits for side in fold for case in side}
    return tuple(case.id for case in dataset.training if case.id not in used)


def _is_splits(content: Any) -> bool:
    def names(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)

    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(fold, dict) and names(fold.get("train")) and names(fold.get("val")) for fold in content)
    )


def _problems(
    path: Path, fold: int, train: list[str], validation: list[str], patients: Mapping[str, str]
) -> list[MedMoEError]:
    repair = f"correct fold {fold}, or delete {path} to have folds made"
    found: list[MedMoEError] = []

    def report(what: str, why: str) -> None:
        found.append(DataError(what, where=path, why=f"fold {fold}: {why}", fix=repair))

    unknown = sorted({case for case in (*train, *validation) if case not in patients})
    if unknown:
        close = nearest(unknown[0], patients)
        report("unknown cases", _some(unknown) + (f"; did you mean '{close}'?" if close else ""))
    twice = sorted(case for side in (train, validation) for case, count in Counter(side).items() if count > 1)
    if twice:
        report("cases listed twice", _some(twice))
    for side, name in ((train, "train"), (validation, "val")):
        if not side:
            report("a side without cases", f"'{name}' is empty")
    both = {patients.get(case, case) for case in train} & {patients.get(case, case) for case in validation}
    if both and set(train) != set(validation):
        report("a patient in train and val", _some(sorted(both)))
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
