"""convert collection: a dataset that names others as its members, with one vocabulary of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, ProblemList, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.collection import Source, is_collection, write_collection
from medmoe_cli.core.data.dataset import Dataset, SplitRule
from medmoe_cli.core.data.dataset_file import FILE_NAME
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.splits import FILE_NAME as SPLITS_NAME
from medmoe_cli.core.data.splits import collection_splits
from medmoe_cli.core.data.vocabulary import MergedClass, merge_names
from medmoe_cli.core.data.write_dataset import require_absent
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectedMember:
    """A member: its cases and patients, how many are held out, and its classes."""

    dataset: str
    modality: str
    num_cases: int
    num_patients: int
    num_held_out: int
    num_classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """A written collection.

    Attributes:
        root: its folder.
        members: in order.
        classes: the common vocabulary, with each member's own names.
    """

    root: Path
    members: tuple[CollectedMember, ...]
    classes: tuple[MergedClass, ...]


def run_collect(
    *,
    workspace: Workspace,
    name: str,
    members: Sequence[str],
    seed: int | None = None,
    overwrite: bool = False,
    write: bool = True,
    reporter: Reporter,
) -> Collected:
    """Write WORKSPACE/datasets/NAME, which names `members` as its sources.

    Args:
        workspace: where the members are and the collection goes.
        name: the collection's.
        members: names of datasets of the workspace.
        seed: of the patients that are held out; None for the default.
        overwrite: replace a dataset of that name.
        write: False to say only what would be written.
        reporter: receives progress.

    Raises:
        ConfigError: a bad name, unknown members, or a dataset of that name.
        DataError: members that cannot be used, or one that has two names for one class.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"bad dataset name '{name}'", fix="use letters, digits, '-', '_' and '.'")
    root = workspace.datasets / name
    if write:
        require_absent(root, overwrite=overwrite)
    arguments = {"name": name, "members": list(members), "seed": seed, "overwrite": overwrite}
    with RunRecorder("convert", folder=None, reporter=reporter, arguments=arguments, seed=seed) as run:
        opened = _open(workspace, members, name)
        classes = merge_names({dataset.name: tuple(dataset.labels) for dataset in opened})
        split = SplitRule() if seed is None else SplitRule(seed=seed)
        prompts = _prompts(opened, classes)
        if not write:
            return Collected(root=root, members=tuple(_facts(one, frozenset()) for one in opened), classes=classes)

        def fill(folder: Path) -> None:
            write_collection(
                folder,
                name=name,
                classes=classes,
                sources=[Source(dataset=dataset.name) for dataset in opened],
                split=split,
                information={"description": f"{len(opened)} datasets: {', '.join(one.name for one in opened)}"},
                class_prompts=prompts,
            )

        atomic.sweep(root.parent)
        atomic.replace_dir(root, fill)
        held_out = hold_out(root)
        run.folder = root
        run.add_output(root)
        for dataset in opened:
            run.add_input(dataset.root / FILE_NAME)
    return Collected(root=root, members=tuple(_facts(one, held_out) for one in opened), classes=classes)


def hold_out(root: Path) -> frozenset[str]:
    """Write a collection's splits_final.json; the cases that it holds out, none where no member can spare a patient."""
    folds = collection_splits(open_dataset(root))
    if folds:
        jsonio.write(root / SPLITS_NAME, [{"train": fold.train, "val": fold.validation} for fold in folds])
    return frozenset(case for fold in folds for case in fold.validation)


def _open(workspace: Workspace, members: Sequence[str], name: str) -> tuple[Dataset, ...]:
    known = sorted(
        folder.name
        for folder in workspace.datasets.glob("*")
        if (folder / FILE_NAME).is_file() and folder.name != name and not is_collection(folder)
    )
    if not members:
        raise ConfigError(
            "no members",
            where="medmoe convert collection",
            why=f"the workspace has {', '.join(known) or 'no dataset'}",
            fix=f"--members {','.join(known[:2]) or 'A,B'}",
        )
    problems: list[MedMoEError] = []
    opened = []
    for member in dict.fromkeys(members):
        if member not in known:
            problems.append(
                ConfigError(f"unknown member '{member}'", where=workspace.datasets, why=did_you_mean(member, known))
            )
            continue
        try:
            opened.append(open_dataset(workspace.datasets / member))
        except MedMoEError as error:
            problems += error.problems if isinstance(error, ProblemList) else (error,)
    raise_all(problems)
    return tuple(opened)


def _prompts(opened: Sequence[Dataset], classes: Sequence[MergedClass]) -> dict[str, str]:
    """The first member's own text for a class, where it has one."""
    given = {dataset.name: dataset.class_prompts for dataset in opened}
    found = {}
    for one in classes:
        for member, names in one.members.items():
            text = given[member].get(names[0], names[0])
            if text != names[0] and one.name not in found and len(one.members) == 1:
                found[one.name] = text
    return found


def _facts(dataset: Dataset, held_out: frozenset[str]) -> CollectedMember:
    return CollectedMember(
        dataset=dataset.name,
        modality=dataset.modality,
        num_cases=len(dataset.training),
        num_patients=len({case.patient for case in dataset.training}),
        num_held_out=sum(f"{dataset.name}/{case.id}" in held_out for case in dataset.training),
        num_classes=len(dataset.labels),
    )
