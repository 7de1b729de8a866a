"""open_dataset: an nnU-Net v2 folder or a collection of several as a Dataset, from dataset.json and file names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList, raise_all
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.collection import (
    SELECTION_NAME,
    CollectionFile,
    is_collection,
    member_classes,
    read_collection_file,
    read_selection,
)
from medmoe_cli.core.data.dataset import Case, Dataset, Member
from medmoe_cli.core.data.dataset_file import FILE_NAME, DatasetFile, read_dataset_file
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.finding import raise_errors
from medmoe_cli.core.data.listing import Listing, list_cases
from medmoe_cli.core.data.vocabulary import key_of, merge_names


def open_dataset(root: Path) -> Dataset:
    """Open a dataset or a collection of several; voxels are not read.

    Gaps between label values are accepted (the planner numbers classes consecutively); a colour picture is one file
    for its three channels.

    Raises:
        DataError: dataset.json or the files' names have problems; all of them together.
    """
    root = root.resolve()
    if is_collection(root):
        return open_collection(root)
    file, findings = read_dataset_file(root)
    if file is None:
        raise_errors(findings, root)
        raise AssertionError("a dataset.json that cannot be used comes with an error")
    listing = list_cases(root, file)
    raise_errors([*findings, *listing.findings], root)
    return assemble(root, file, listing)


def assemble(root: Path, file: DatasetFile, listing: Listing) -> Dataset:
    """The Dataset of the complete cases."""
    return Dataset(
        name=root.name,
        root=root,
        channels=file.channels,
        labels=file.labels,
        file_ending=file.file_ending,
        training=listing.training,
        test=listing.test,
        class_prompts=file.class_prompts,
        modality=file.modality,
    )


def open_collection(root: Path) -> Dataset:
    """Open a collection's members and join them.

    Raises:
        DataError: its dataset.json, its selection, a member or the members' class names; all problems together.
    """
    file, findings = read_collection_file(root)
    raise_errors(findings, root)
    assert file is not None
    problems: list[MedMoEError] = []
    opened: dict[str, Dataset] = {}
    for source in file.sources:
        try:
            opened[source.dataset] = _open_member(root, source.dataset)
        except MedMoEError as problem:
            problems += problem.problems if isinstance(problem, ProblemList) else (problem,)
    raise_all(problems)
    merged = merge_names(
        {name: tuple(dataset.labels) for name, dataset in opened.items()},
        given={source.dataset: source.classes for source in file.sources if source.classes is not None},
    )
    # What merging calls a class, the file may call otherwise in another spelling: its labels have the last word.
    labels = file.labels or {one.name: value for value, one in enumerate(merged, start=1)}
    spelled = {key_of(name): name for name in labels}
    members = []
    for source in file.sources:
        classes = source.classes
        if classes is None:
            classes = {
                own: spelled.get(key_of(name), name) for own, name in member_classes(source.dataset, merged).items()
            }
        problems += _class_problems(root, source.dataset, opened[source.dataset], classes, labels)
        members.append(
            Member(
                dataset=opened[source.dataset],
                classes=classes,
                weight=source.weight,
                slice_axis=source.slice_axis,
            )
        )
    raise_all(problems)
    return _joined(root, file, labels, _with_selection(root, members, labels))


def _open_member(root: Path, name: str) -> Dataset:
    place = root.parent / name
    known = [
        folder.name for folder in sorted(root.parent.glob("*")) if (folder / FILE_NAME).is_file() and folder != root
    ]
    if not (place / FILE_NAME).is_file() or place == root:
        raise DataError(
            f"unknown member '{name}'",
            where=root,
            why=f"no such dataset beside it; {did_you_mean(name, known)}",
            fix=f"medmoe convert SOURCE --format FORMAT --name {name}",
        )
    if is_collection(place):
        raise DataError(
            f"member '{name}' is a collection", where=root, why="members are datasets of images", fix="name its members"
        )
    return open_dataset(place)


def _class_problems(
    root: Path, name: str, dataset: Dataset, classes: Mapping[str, str], labels: Mapping[str, int]
) -> list[MedMoEError]:
    problems: list[MedMoEError] = [
        DataError(
            f"member '{name}' has no class '{own}'",
            where=root,
            why=did_you_mean(own, dataset.labels),
            fix="edit 'sources' in dataset.json",
        )
        for own in classes
        if own not in dataset.labels
    ]
    problems += [
        DataError(
            f"class '{common}' of member '{name}' is no label of the collection",
            where=root,
            why=did_you_mean(common, labels),
            fix="edit 'labels' in dataset.json, or say what it is under 'classes' of the member",
        )
        for common in dict.fromkeys(classes.values())
        if common not in labels
    ]
    if not classes:
        problems.append(
            DataError(f"member '{name}' has none of the classes", where=root, fix="edit 'sources' in dataset.json")
        )
    return problems


def _with_selection(root: Path, members: list[Member], labels: Mapping[str, int]) -> tuple[Member, ...]:
    path = root / SELECTION_NAME
    if not path.is_file():
        return tuple(members)
    chosen = read_selection(path, members={one.name: one.classes for one in members}, labels=labels)
    problems: list[MedMoEError] = []
    for one in members:
        cases = {case.id for case in one.dataset.training}
        strangers = sorted(set(chosen.get(one.name, {})) - cases)
        if strangers:
            problems.append(
                DataError(
                    "a selection of cases that are not there",
                    where=path,
                    why=f"{one.name}: {some(strangers)}",
                    fix="build the collection again",
                )
            )
    raise_all(problems)
    return tuple(replace(one, selection=chosen.get(one.name, {})) for one in members)


def _joined(root: Path, file: CollectionFile, labels: Mapping[str, int], members: tuple[Member, ...]) -> Dataset:
    def cases(member: Member, own: tuple[Case, ...]) -> list[Case]:
        return [replace(case, id=member.case_id(case.id), patient=f"{member.name}/{case.patient}") for case in own]

    modalities = dict.fromkeys(one.dataset.modality for one in members if one.dataset.modality)
    return Dataset(
        name=root.name,
        root=root,
        channels=(),
        labels=dict(labels),
        file_ending="",
        training=tuple(case for one in members for case in cases(one, one.dataset.training)),
        test=tuple(case for one in members for case in cases(one, one.dataset.test)),
        class_prompts={name: file.class_prompts.get(name, name) for name in labels},
        modality=", ".join(modalities),
        members=members,
        split_rule=file.split,
    )
