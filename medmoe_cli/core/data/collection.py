"""A collection: a dataset folder without images whose dataset.json names other datasets as its `sources`.

    {"name": "all", "labels": {"background": 0, "right_kidney": 1, "spleen": 2},
     "sources": [{"dataset": "btcv", "classes": {"RK": "right_kidney", "spleen": "spleen"}, "weight": 1.0}],
     "split": {"held_out": 0.1, "seed": 12345, "official": true}}

Members lie beside it, under the names of their folders. `classes` maps a member's classes to those of `labels`;
without it the names are merged by `vocabulary.merge_names`. A class that no entry leads to is one that the member does
not label: there it is unknown, never background. `weight` multiplies how often the member is drawn. `slice_axis` (x, y
or z) fixes the axis along which the selection counts slices. `merged` records which names became one class, for
readers. `selection.csv`, where there is one, lists the only masks to train on: columns member, case, slice (along the
member's slice axis, canonical order, from 0), class (of `labels`); further columns are for readers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.class_words import class_words
from medmoe_cli.core.data.dataset import SplitRule
from medmoe_cli.core.data.dataset_file import FILE_NAME
from medmoe_cli.core.data.finding import Finding, error
from medmoe_cli.core.data.vocabulary import MergedClass

SELECTION_NAME = "selection.csv"
SELECTION_COLUMNS = ("member", "case", "slice", "class")

Axis = Literal["x", "y", "z"]
Selection = Mapping[str, Mapping[int, frozenset[str]]]
"""Of one member: case id to slice to the selected classes, as the collection calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One member as dataset.json names it.

    Attributes:
        dataset: the name of its folder beside the collection's.
        classes: own class to the collection's; None to merge names.
        weight: how often it is drawn, times what its size gives.
        slice_axis: along which its slices are counted; None for the plan's choice.
    """

    dataset: str
    classes: Mapping[str, str] | None = None
    weight: float = 1.0
    slice_axis: Axis | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionFile:
    """The content of a collection's dataset.json.

    Attributes:
        labels: the common vocabulary, name to value, background excluded, in value order.
        sources: the members, in order.
        class_prompts: name to text.
        split: how patients are held out where no file says.
    """

    labels: dict[str, int]
    sources: tuple[Source, ...]
    class_prompts: dict[str, str] = field(default_factory=dict)
    split: SplitRule = field(default_factory=SplitRule)


def is_collection(root: Path) -> bool:
    """True when the folder's dataset.json names sources; nothing is said about their being right."""
    try:
        content = jsonio.read(root / FILE_NAME)
    except DataError:
        return False
    return isinstance(content, dict) and isinstance(content.get("sources"), list) and bool(content["sources"])


def write_collection(
    folder: Path,
    *,
    name: str,
    classes: Sequence[MergedClass],
    sources: Sequence[Source],
    split: SplitRule | None = None,
    information: Mapping[str, Any] | None = None,
    class_prompts: Mapping[str, str] | None = None,
) -> Path:
    """Write a collection's dataset.json.

    Args:
        folder: of the collection.
        name: what it is called.
        classes: the common vocabulary; values are given in its order.
        sources: the members; their `classes` are written as `classes` says.
        split: how patients are held out.
        information: further keys, for readers.
        class_prompts: text for a class; its name in words otherwise.
    """
    content: dict[str, Any] = {
        **(information or {}),
        "name": name,
        "labels": {"background": 0, **{one.name: value for value, one in enumerate(classes, start=1)}},
        "class_prompts": {one.name: (class_prompts or {}).get(one.name, class_words(one.name)) for one in classes},
        "sources": [_source_json(source, classes) for source in sources],
        "merged": [{"class": one.name, "names": one.members} for one in classes if one.is_merged],
        "split": split or SplitRule(),
    }
    return jsonio.write(folder / FILE_NAME, content)


def member_classes(member: str, classes: Sequence[MergedClass]) -> dict[str, str]:
    """A member's own classes to those of the vocabulary."""
    return {own: one.name for one in classes for own in one.members.get(member, ())}


def _source_json(source: Source, classes: Sequence[MergedClass]) -> dict[str, Any]:
    content: dict[str, Any] = {"dataset": source.dataset, "classes": member_classes(source.dataset, classes)}
    if source.weight != 1:
        content["weight"] = source.weight
    if source.slice_axis is not None:
        content["slice_axis"] = source.slice_axis
    return content


def read_collection_file(root: Path) -> tuple[CollectionFile | None, list[Finding]]:
    """Read a collection's dataset.json; the file is None when it cannot be used.

    `labels` may be missing where every source leaves its classes to be merged; then it is empty here.
    """
    content = jsonio.read(root / FILE_NAME)
    findings: list[Finding] = []
    labels = _labels(content.get("labels", {}), findings)
    sources = tuple(
        source
        for place, entry in enumerate(content["sources"])
        if (source := _source(place, entry, labels, findings)) is not None
    )
    names = [source.dataset for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        findings.append(_key("sources", f"names {', '.join(twice)} more than once"))
    prompts = content.get("class_prompts", {})
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        findings.append(_key("class_prompts", "is not an object of texts"))
        prompts = {}
    split = _split(content.get("split", {}), findings)
    if findings:
        return None, findings
    return CollectionFile(labels=labels, sources=sources, class_prompts=dict(prompts), split=split), []


def read_selection(
    path: Path, *, members: Mapping[str, Mapping[str, str]], labels: Iterable[str]
) -> dict[str, dict[str, dict[int, frozenset[str]]]]:
    """Read selection.csv: member to case to slice to classes.

    Args:
        path: the file.
        members: name to its classes (own to common): a class that a member does not label cannot be selected.
        labels: the common classes.

    Raises:
        DataError: lines that cannot be understood; the first of them, together.
    """
    known = set(labels)
    labelled = {member: set(classes.values()) for member, classes in members.items()}
    found: dict[str, dict[str, dict[int, set[str]]]] = {}
    problems: list[MedMoEError] = []
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        lacking = [column for column in SELECTION_COLUMNS if column not in (rows.fieldnames or ())]
        if lacking:
            raise DataError(
                "not a selection", where=path, why=f"no column {', '.join(lacking)}", fix="restore the file"
            )
        for row in rows:
            member, case, slice_text, name = (str(row[column]) for column in SELECTION_COLUMNS)
            why = ""
            if member not in members:
                why = f"member '{member}': {did_you_mean(member, members)}"
            elif name not in known:
                why = f"class '{name}': {did_you_mean(name, known)}"
            elif name not in labelled[member]:
                why = f"'{member}' does not label '{name}'"
            elif not slice_text.isdecimal():
                why = f"slice '{slice_text}' is no number"
            if why:
                problems.append(
                    DataError(
                        f"line {rows.line_num} cannot be selected", where=path, why=why, fix="correct or remove it"
                    )
                )
                if len(problems) == _MOST_PROBLEMS:
                    break
                continue
            found.setdefault(member, {}).setdefault(case, {}).setdefault(int(slice_text), set()).add(name)
    raise_all(problems)
    return {
        member: {case: {place: frozenset(names) for place, names in slices.items()} for case, slices in cases.items()}
        for member, cases in found.items()
    }


_MOST_PROBLEMS = 20


def _labels(value: Any, findings: list[Finding]) -> dict[str, int]:
    if not isinstance(value, dict):
        findings.append(_key("labels", 'is no object {"background": 0, "liver": 1}'))
        return {}
    wrong = [name for name, number in value.items() if type(number) is not int or number < 0]
    if wrong:
        findings.append(_key("labels", f"has values that are no whole numbers: {', '.join(wrong[:5])}"))
        return {}
    numbers = {name: number for name, number in value.items() if number > 0}
    if len(set(numbers.values())) < len(numbers):
        findings.append(_key("labels", "gives one value to more than one name"))
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _source(place: int, entry: Any, labels: Mapping[str, int], findings: list[Finding]) -> Source | None:
    key = f"sources[{place}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("dataset"), str):
        findings.append(_key(key, 'is no object with a "dataset"'))
        return None
    classes = entry.get("classes")
    if classes is not None:
        if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes.values()):
            findings.append(_key(f"{key}.classes", "is no object of names"))
            return None
        for name in dict.fromkeys(classes.values()):
            if name not in labels:
                findings.append(
                    _key(f"{key}.classes", f"leads to '{name}', which is no label: {did_you_mean(name, labels)}")
                )
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        findings.append(_key(f"{key}.weight", f"is {weight!r}, a number above 0 is expected"))
        weight = 1.0
    axis = entry.get("slice_axis")
    if axis not in (None, "x", "y", "z"):
        findings.append(_key(f"{key}.slice_axis", f"is {axis!r}, x, y or z is expected"))
        axis = None
    return Source(dataset=entry["dataset"], classes=classes, weight=float(weight), slice_axis=axis)


def _split(value: Any, findings: list[Finding]) -> SplitRule:
    default = SplitRule()
    if not isinstance(value, dict) or set(value) - {"held_out", "seed", "official"}:
        findings.append(_key("split", 'is not {"held_out": 0.1, "seed": 12345, "official": true}'))
        return default
    held_out, seed = value.get("held_out", default.held_out), value.get("seed", default.seed)
    official = value.get("official", default.official)
    if type(held_out) not in (int, float) or not 0 < held_out < 1:
        findings.append(_key("split.held_out", f"is {held_out!r}, a share between 0 and 1 is expected"))
        return default
    if type(seed) is not int or seed < 0 or type(official) is not bool:
        findings.append(_key("split", "has a seed that is no number, or 'official' that is neither true nor false"))
        return default
    return SplitRule(held_out=float(held_out), seed=seed, official=official)


def _key(key: str, problem: str) -> Finding:
    return error("json-key", f"key '{key}' {problem}", fix=f"edit '{key}' in dataset.json", file=FILE_NAME)
