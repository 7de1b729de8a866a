"""What a conversion found, wrote and settled: the content of its tables, of its JSON and of run.json."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medmoe_cli.core.data.converters.source import OFFICIAL, Fold, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.write_case import CaseOutcome, Spelling

_SLICE_LIKE = re.compile(r"(.+?)[_\-]\d+")
_OF_GRIDS = re.compile(
    r"\b(grids?|headers?|resampled|affines?|qform|sform|voxel sizes?|spacing|cropped|padded)\b", re.I
)
"""Notes of a case that speak of where its voxels lie."""

_OF_VOXELS = re.compile(r"(\d+) (voxels .+)")

_MADE = "none in the source: folds are made by patient"
_SHOWN_NOTES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """One class in the written dataset: where its values came from, and how often it is there."""

    name: str
    value: int
    source_values: tuple[int, ...]
    cases: int
    voxels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueRow:
    """One value of the source's label files: what it is expected to mean, and how often it was seen.

    Attributes:
        value: in the source.
        meaning: the class, 'background', or what a known slip stands for.
        becomes: value in the dataset.
        mended: it is a known slip.
        cases, voxels: where it was seen; 0 for a value that was expected and never came.
    """

    value: int
    meaning: str
    becomes: int
    mended: bool
    cases: int
    voxels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GridRow:
    """What was found about grids, what was done, and in how many cases."""

    what: str
    cases: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a conversion wrote, or would write.

    Attributes:
        root: the dataset's folder.
        planned: nothing was written, the counts are the survey's (--dry-run).
        found: cases in the source, those left out included.
        training: cases in imagesTr.
        test: cases in imagesTs.
        labelled_test: cases in labelsTs.
        reused: cases that an interrupted conversion had finished.
        failed: case id and reason of what could not be converted.
        skipped: what was left out on purpose.
        classes: one row per class.
        values: one row per source value; none when planned.
        grids: mismatches of grids; none where all agree.
        patients: number of patients.
        split: the release's official split, in words.
        folds: those in splits_final.json.
        notes: what was settled, with the number of cases where it is about cases.
        inputs: sha256 of every file read.
    """

    root: Path
    planned: bool = False
    found: int
    training: int
    test: int
    labelled_test: int = 0
    reused: int = 0
    failed: tuple[Skipped, ...] = ()
    skipped: tuple[Skipped, ...]
    classes: tuple[ClassRow, ...]
    values: tuple[ValueRow, ...] = ()
    grids: tuple[GridRow, ...] = ()
    patients: int
    split: str
    folds: int = 0
    notes: tuple[str, ...]
    inputs: Mapping[str, str]


def summary(
    root: Path,
    survey: Survey,
    outcomes: Sequence[CaseOutcome],
    *,
    limited: int,
    folds: Sequence[Fold],
    own_splits: bool,
    spelling: Spelling,
) -> Written:
    """What was written.

    Args:
        root: the dataset's folder.
        survey: what the converter understood.
        outcomes: of the cases, in order.
        limited: cases that --limit left out.
        folds: what was written of the official folds.
        own_splits: the source's own splits_final.json was copied.
        spelling: of the source's paths.
    """
    converted = [outcome for outcome in outcomes if not outcome.failure]
    counted, totals = _counted_notes(converted)
    grids = {note: count for note, count in counted.items() if _OF_GRIDS.search(note)}
    others = Counter({note: count for note, count in counted.items() if note not in grids})
    values = _values(survey, converted)
    mended = [
        f"value {row.value} {row.meaning}: mended, {row.voxels} voxels in {row.cases} cases"
        for row in values
        if row.mended and row.cases
    ]
    notes = [
        *survey.notes,
        *mended,
        *(f"{totals.get(note, '')}{note} ({count} cases)" for note, count in others.most_common(_SHOWN_NOTES)),
    ]
    if len(others) > _SHOWN_NOTES:
        notes.append(f"and {len(others) - _SHOWN_NOTES} more kinds of notes on cases")
    if limited:
        notes.append(f"--limit left {limited} cases out")
    empty = [
        one.id for one in converted if one.seen and not any(one.voxels.get(value) for value in survey.labels.values())
    ]
    if empty:
        notes.append(f"{len(empty)} labelled cases show no class at all: {some(empty)}")
    if all(outcome.split == "Ts" for outcome in converted):
        notes.append("no training case: there is nothing to train on")
    misplaced = sum(outcome.misplaced for outcome in outcomes)
    rows = [GridRow(what=note, cases=count) for note, count in Counter(grids).most_common()]
    if misplaced:
        rows.append(GridRow(what="grids that do not agree: the case was left out", cases=misplaced))
    patients = {outcome.patient for outcome in converted}
    if len(patients) == len(converted) and (hint := _patient_hint([outcome.id for outcome in converted])):
        notes.append(hint)
    test = [outcome for outcome in converted if outcome.split == "Ts"]
    labelled = sum(bool(outcome.voxels) for outcome in test)
    lost_folds = len(survey.folds) > len(folds)
    return Written(
        root=root,
        found=len(outcomes) + limited + sum(one.is_case for one in survey.skipped),
        training=len(converted) - len(test),
        test=len(test),
        labelled_test=labelled,
        reused=sum(outcome.cached for outcome in converted),
        failed=tuple(Skipped(what=outcome.id, why=outcome.failure) for outcome in outcomes if outcome.failure),
        skipped=_spelled(survey.skipped, spelling),
        classes=tuple(
            ClassRow(
                name=name,
                value=value,
                source_values=sources_of(survey, value),
                cases=sum(outcome.voxels.get(value, 0) > 0 for outcome in converted),
                voxels=sum(outcome.voxels.get(value, 0) for outcome in converted),
            )
            for name, value in survey.labels.items()
        ),
        values=values,
        grids=tuple(rows),
        patients=len(patients),
        split=_split_words(folds, lost=lost_folds, own_splits=own_splits, test=len(test), labelled=labelled),
        folds=len(folds),
        notes=tuple(spelling(note) for note in notes),
        inputs={path: digest for outcome in converted for path, digest in outcome.inputs.items()},
    )


def _counted_notes(converted: Sequence[CaseOutcome]) -> tuple[Counter[str], dict[str, str]]:
    """How many cases have each note; notes that begin with a number of voxels are one, with the total before it."""
    counted: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for outcome in converted:
        for note in set(outcome.notes):
            match = _OF_VOXELS.fullmatch(note)
            counted[match[2] if match else note] += 1
            if match:
                totals[match[2]] += int(match[1])
    return counted, {note: f"{total} " for note, total in totals.items()}


def planned(root: Path, survey: Survey, cases: Sequence[SourceCase], *, limited: int, spelling: Spelling) -> Written:
    """What would be written, as far as the survey knows: no voxel was read."""
    test = sum(case.split == "Ts" for case in cases)
    known = {case.id for case in cases}
    folds = kept_folds(survey, known)
    size = sum(file.stat().st_size for case in cases for file in case.files if file.is_file())
    notes = [
        *survey.notes,
        f"{size / (1 << 20):.1f} MiB of source files would be read",
        "values and grids are looked at when it is written",
    ]
    if limited:
        notes.append(f"--limit left {limited} cases out")
    return Written(
        root=root,
        planned=True,
        found=len(cases) + limited + sum(one.is_case for one in survey.skipped),
        training=len(cases) - test,
        test=test,
        skipped=_spelled(survey.skipped, spelling),
        classes=tuple(
            ClassRow(name=name, value=value, source_values=sources_of(survey, value), cases=0, voxels=0)
            for name, value in survey.labels.items()
        ),
        patients=len({case.patient for case in cases}),
        split=_split_words(
            folds,
            lost=len(survey.folds) > len(folds),
            own_splits=survey.splits is not None,
            test=test,
            labelled=None,
        ),
        folds=len(folds),
        notes=tuple(spelling(note) for note in notes),
        inputs={},
    )


def sources_of(survey: Survey, value: int) -> tuple[int, ...]:
    """The source values that become a dataset value, known slips not among them."""
    return tuple(sorted(source for source, target in survey.value_map.items() if target == value))


def kept_folds(survey: Survey, training: set[str]) -> tuple[Fold, ...]:
    """The official folds over the cases that are there; one that loses a whole side is no fold any more."""
    kept = [
        replace(
            fold,
            train=tuple(case for case in fold.train if case in training),
            val=tuple(case for case in fold.val if case in training),
        )
        for fold in survey.folds
    ]
    return tuple(fold for fold in kept if fold.train and fold.val)


def _values(survey: Survey, converted: Sequence[CaseOutcome]) -> tuple[ValueRow, ...]:
    names = {value: name for name, value in survey.labels.items()}
    names[0] = "background"
    table = {0: 0, **survey.value_map}
    meanings = {source: names[target] for source, target in table.items()}
    if survey.threshold is not None:
        above = survey.threshold
        meanings = {0: f"background, up to {above} in the files", 1: f"{names[1]}, above {above} in the files"}
    for slip, meant in survey.mended.items():
        meanings[slip] = f"is a known slip for {meant} ({names[table[meant]]})"
        table[slip] = table[meant]
    rows = []
    for value in sorted(table):
        cases = [outcome.seen[value] for outcome in converted if outcome.seen.get(value)]
        if value in survey.mended and not cases:
            continue  # a slip that did not come is no news
        rows.append(
            ValueRow(
                value=value,
                meaning=meanings[value],
                becomes=table[value],
                mended=value in survey.mended,
                cases=len(cases),
                voxels=sum(cases),
            )
        )
    return tuple(rows)


def _split_words(folds: Sequence[Fold], *, lost: bool, own_splits: bool, test: int, labelled: int | None) -> str:
    """The row of the table; `lost` is a published fold that has no case left on one of its sides."""
    parts = []
    if folds:
        sides = ", ".join(f"{len(fold.train)} train / {len(fold.val)} val" for fold in folds[:3])
        more = f" and {len(folds) - 3} more" if len(folds) > 3 else ""
        whose = folds[0].name
        kind = "official" if whose.startswith(OFFICIAL) else "published"
        parts.append(f"{kind} folds in splits_final.json ({whose}): {sides}{more}")
    elif own_splits:
        parts.append("splits_final.json is the source's")
    elif lost:
        parts.append("the published fold has no case here on one of its sides: folds are made by patient")
    else:
        parts.append("no published folds: they are made by patient" if test else _MADE)
    if test:
        known = "" if labelled is None else f", {labelled} of them with labels in labelsTs"
        parts.append(f"{test} test cases in imagesTs{known}")
    return "; ".join(parts)


def _spelled(skipped: Sequence[Skipped], spelling: Spelling) -> tuple[Skipped, ...]:
    return tuple(replace(one, what=spelling(one.what), why=spelling(one.why)) for one in skipped)


def _patient_hint(ids: Sequence[str]) -> str:
    """A warning when ids look like several slices of fewer patients ('ABD_001_100')."""
    groups = {match[1] for name in ids if (match := _SLICE_LIKE.fullmatch(name))}
    if 1 < len(groups) < len(ids):
        return (
            f"each case counts as its own patient, but the names look like {len(groups)} patients: "
            r"--patient-regex '(.+)_\d+' keeps a patient's cases on one side of a split"
        )
    return ""
