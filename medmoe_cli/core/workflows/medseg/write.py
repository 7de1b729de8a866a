"""The files of a MedSeg-HQ, one member after the other: a table is open at a time, rows are written as they come."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.datasheet import ClassFacts, DataSheet, MemberFacts, MissingSource, ModalityFacts
from medmoe_cli.core.data.collection import (
    SELECTION_COLUMNS,
    SELECTION_NAME,
    Axis,
    Source,
    member_classes,
    write_collection,
)
from medmoe_cli.core.data.dataset import SplitRule
from medmoe_cli.core.data.exclusions import Exclusion, excluded_rows
from medmoe_cli.core.data.medseg_sources import PaperSource
from medmoe_cli.core.data.quality import FORMULA
from medmoe_cli.core.data.quality_scan import read_table
from medmoe_cli.core.data.selection import REASONS, Group, Reason, Verdicts, judge, usable
from medmoe_cli.core.data.vocabulary import MergedClass
from medmoe_cli.core.workflows.medseg.members import MeasuredMember
from medmoe_cli.core.workflows.medseg.sheets import best_and_worst

SHEETS_FOLDER = "contact_sheets"
QUALITY_NAME = "quality.csv"
_HELD_OUT = 0.1
_SPLITS = "9:1 by patient within each member, by the seed"
_MODALITIES = {"MRI": "MR", "MAGNETIC RESONANCE": "MR", "COMPUTED TOMOGRAPHY": "CT"}
_AXES: tuple[Axis, ...] = ("x", "y", "z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Writing:
    """Everything that decides what is written.

    Attributes:
        name: the collection's.
        members: in the order of their names.
        vocabulary: the common classes.
        quotas: masks to keep.
        exclusions, exclude: the veto and its file; () and None without.
        seed: of the draws.
        rule: how many masks are kept, in words.
        missing: of the paper's datasets.
    """

    name: str
    members: tuple[MeasuredMember, ...]
    vocabulary: tuple[MergedClass, ...]
    quotas: Mapping[Group, int]
    exclusions: tuple[Exclusion, ...]
    exclude: Path | None
    seed: int
    rule: str
    missing: tuple[PaperSource, ...]


class _Line(NamedTuple):
    """A line of quality.csv; `name` is the class as the member calls it."""

    member: str
    case: str
    slice: int
    name: str
    clarity: str
    contrast: str
    entropy: str
    foreground: str
    regions: str
    score: str
    rank: str
    selected: int
    why_not: str


@dataclass(kw_only=True, slots=True)
class _Tally:
    """Masks by common class: those there are, and the selected ones by member."""

    masks: Counter[str] = field(default_factory=Counter)
    selected: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))


def write_members(folder: Path, writing: Writing, *, reporter: Reporter) -> DataSheet:
    """Write dataset.json, quality.csv, selection.csv and the contact sheets into a folder.

    Returns:
        What is in it.

    Raises:
        DataError: no mask of any member is selected.
    """
    vocabulary = writing.vocabulary
    tally = _Tally()
    facts: list[MemberFacts] = []
    reporter.start("select", len(writing.members))
    with _open(folder / QUALITY_NAME) as quality_file, _open(folder / SELECTION_NAME) as selection_file:
        quality, selection = csv.writer(quality_file), csv.writer(selection_file)
        quality.writerow(("member", "case", "slice", "class", *_Line._fields[4:]))
        selection.writerow((*SELECTION_COLUMNS, "score"))
        for one in writing.members:
            table = read_table(one.table)
            excluded = _excluded(one, table, writing)
            verdicts = judge(
                table,
                member=one.name,
                cases=one.cases,
                names=one.names,
                quotas={group.value: kept for group, kept in writing.quotas.items() if group.member == one.name},
                excluded=excluded,
                seed=writing.seed,
            )
            common = member_classes(one.name, vocabulary)
            for row in _rows(one, table, verdicts):
                quality.writerow(row)
                if row.selected:
                    selection.writerow((*row[:3], common[row.name], row.score))
            facts.append(_facts(one, table, verdicts))
            _count(tally, one, table, verdicts, vocabulary)
            sheet = best_and_worst(one, table, verdicts, ~excluded)
            if sheet is not None:
                atomic.write_bytes(folder / SHEETS_FOLDER / f"{one.name}.png", sheet)
            reporter.advance(one.name, detail=f"{facts[-1].masks_selected} of {facts[-1].masks} masks")
            if not facts[-1].masks_selected:
                reporter.warn(
                    f"{one.name} is left out: of its {facts[-1].masks} masks {facts[-1].masks_usable} are larger than "
                    f"specks and smaller than their picture, {facts[-1].masks_excluded} were excluded"
                )
    reporter.finish()
    kept = [one for one, fact in zip(writing.members, facts, strict=True) if fact.masks_selected]
    if not kept:
        raise DataError("no mask to select", why="all are specks, whole pictures or excluded", fix="see --exclude")
    names = {one.name for one in kept}
    vocabulary = tuple(one for one in vocabulary if names.intersection(one.members))
    write_collection(
        folder,
        name=writing.name,
        classes=vocabulary,
        sources=[Source(dataset=one.name, slice_axis=_AXES[one.plan.slice_axis]) for one in kept],
        split=SplitRule(held_out=_HELD_OUT, seed=writing.seed, official=False),
        information={"description": f"masks of {len(kept)} datasets, chosen by quality: see DATASHEET.md"},
    )
    return DataSheet(
        name=writing.name,
        rule=writing.rule,
        seed=writing.seed,
        exclusions=writing.exclude.name if writing.exclude is not None else "",
        splits=_SPLITS,
        formula=FORMULA,
        members=tuple(facts),
        classes=tuple(
            ClassFacts(
                name=one.name,
                members=tally.selected[one.name],
                masks=tally.masks[one.name],
                selected=sum(tally.selected[one.name].values()),
            )
            for one in writing.vocabulary
        ),
        modalities=_modalities(facts),
        missing=tuple(
            MissingSource(
                source=one.title,
                modality=one.modality,
                command=one.command,
                obtain=one.obtain,
                licence=one.licence,
            )
            for one in writing.missing
        ),
    )


def _open(path: Path) -> TextIO:
    return path.open("w", newline="", encoding="utf-8")


def _excluded(one: MeasuredMember, table: NDArray[Any], writing: Writing) -> NDArray[np.bool_]:
    if writing.exclude is None:
        return np.zeros(len(table), bool)
    rows, _ = excluded_rows(
        writing.exclusions, table, member=one.name, cases=one.cases, names=one.names, path=writing.exclude
    )
    return rows


def _rows(one: MeasuredMember, table: NDArray[Any], verdicts: Verdicts) -> Iterator[_Line]:
    """The lines of quality.csv."""
    cases, names = one.cases, one.names
    for place, row in enumerate(table):
        reason = Reason(int(verdicts.reason[place]))
        ranked = verdicts.rank[place] > 0
        yield _Line(
            member=one.name,
            case=cases[row["case"]],
            slice=int(row["slice"]),
            name=names[int(row["value"])],
            clarity=f"{row['clarity']:.6g}",
            contrast=f"{row['contrast']:.6g}",
            entropy=f"{row['entropy']:.6g}",
            foreground=f"{row['foreground']:.6g}",
            regions=f"{row['regions']:.0f}",
            score=f"{verdicts.score[place]:.6f}" if ranked else "",
            rank=str(verdicts.rank[place]) if ranked else "",
            selected=int(reason is Reason.SELECTED),
            why_not=REASONS[reason],
        )


def _count(
    tally: _Tally,
    one: MeasuredMember,
    table: NDArray[Any],
    verdicts: Verdicts,
    vocabulary: tuple[MergedClass, ...],
) -> None:
    for merged in vocabulary:
        values = [one.member.dataset.labels[own] for own in merged.members.get(one.name, ())]
        if values:
            here = np.isin(table["value"], values)
            tally.masks[merged.name] += int(here.sum())
            tally.selected[merged.name][one.name] = int((here & (verdicts.reason == Reason.SELECTED)).sum())


def _facts(one: MeasuredMember, table: NDArray[Any], verdicts: Verdicts) -> MemberFacts:
    selected = verdicts.reason == Reason.SELECTED
    training, source, told = one.member.dataset.training, one.member.source, one.member.dataset.modality
    chosen = np.unique(table["case"][selected])
    return MemberFacts(
        dataset=one.name,
        source=source.title if source is not None else "",
        modality=source.modality if source is not None else _MODALITIES.get(told.upper(), told),
        licence=one.member.told("licence") or one.member.told("license") or (source.licence if source else ""),
        reference=one.member.told("reference"),
        slice_axis="xyz"[one.plan.slice_axis],
        cases=len(training),
        cases_selected=len(chosen),
        patients=len({case.patient for case in training}),
        patients_selected=len({training[place].patient for place in chosen}),
        images=_images(table),
        images_selected=_images(table[selected]),
        masks=len(table),
        masks_usable=int(usable(table).sum()),
        masks_selected=int(selected.sum()),
        masks_excluded=int((verdicts.reason == Reason.EXCLUDED).sum()),
    )


def _images(table: NDArray[Any]) -> int:
    return len(np.unique(table[["case", "slice"]]))


def _modalities(facts: list[MemberFacts]) -> tuple[ModalityFacts, ...]:
    return tuple(
        ModalityFacts(
            modality=modality,
            members=tuple(one.dataset for one in facts if one.modality == modality),
            images=sum(one.images_selected for one in facts if one.modality == modality),
            masks=sum(one.masks_selected for one in facts if one.modality == modality),
        )
        for modality in sorted({one.modality for one in facts})
    )
