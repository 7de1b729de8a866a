"""One writer for all converters: a survey becomes an nnU-Net v2 folder, whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.class_words import class_words
from medmoe_cli.core.data.converters.source import Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.workers import each
from medmoe_cli.core.data.write_case import CaseOutcome, CaseWriter

_SLICE_LIKE = re.compile(r"(.+?)[_\-]\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """One class in the written dataset: where its values came from, and how often it is there."""

    name: str
    value: int
    source_values: tuple[int, ...]
    cases: int
    voxels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a conversion wrote.

    Attributes:
        root: the dataset's folder.
        training: cases in imagesTr.
        test: cases in imagesTs.
        failed: case id and reason of what could not be converted.
        skipped: what was left out on purpose.
        classes: one row per class.
        patients: number of patients.
        notes: what was settled, with the number of cases where it is about cases.
        inputs: sha256 of every file read.
    """

    root: Path
    training: int
    test: int
    failed: tuple[Skipped, ...]
    skipped: tuple[Skipped, ...]
    classes: tuple[ClassRow, ...]
    patients: int
    notes: tuple[str, ...]
    inputs: Mapping[str, str]


def write_dataset(
    root: Path, survey: Survey, *, overwrite: bool, workers: int, limit: int | None, reporter: Reporter
) -> Written:
    """Write a survey's cases and its dataset.json.

    Everything goes into a temporary sibling of `root` that is renamed at the end; an existing dataset stays as it is
    until then.

    Args:
        root: the dataset's folder.
        survey: what to write.
        overwrite: replace an existing folder.
        workers: processes.
        limit: only the first cases.
        reporter: hears of every case.

    Raises:
        ConfigError: the folder exists and `overwrite` is False.
        DataError: there is no case, two have one id, or none could be converted.
        ResourceError: no disk, no memory, a dead worker.
    """
    require_absent(root, overwrite=overwrite)
    cases = _checked(survey)[:limit]
    outcomes: list[CaseOutcome] = []

    def fill(folder: Path) -> None:
        reporter.start("convert", len(cases))
        writer = CaseWriter.of(survey, folder)
        for outcome in each(writer, cases, workers=workers, name=lambda case: case.id):
            outcomes.append(outcome)
            reporter.advance(outcome.id, status="failed" if outcome.failure else "ok", detail=outcome.failure)
        reporter.finish()
        converted = [outcome for outcome in outcomes if not outcome.failure]
        if not converted:
            first = outcomes[0].failure
            raise DataError("no case could be converted", where=root.name, why=f"the first of {len(outcomes)}: {first}")
        (folder / "labelsTr").mkdir(exist_ok=True)
        (folder / "imagesTr").mkdir(exist_ok=True)
        jsonio.write(folder / "dataset.json", _dataset_json(root.name, survey, converted))
        if survey.splits is not None and len(converted) == len(survey.cases):
            shutil.copyfile(survey.splits, folder / "splits_final.json")

    atomic.sweep(root.parent)
    atomic.replace_dir(root, fill)
    return _summary(root, survey, outcomes, limited=len(survey.cases) - len(cases))


def require_absent(root: Path, *, overwrite: bool) -> None:
    """Refuse to replace a dataset without being told to.

    Raises:
        ConfigError: there is something at `root`.
    """
    if root.exists() and not overwrite and any(root.iterdir()):
        raise ConfigError("the dataset exists", where=root, fix="choose another --name, or add --overwrite")


def _checked(survey: Survey) -> list[SourceCase]:
    if not survey.cases:
        reasons = Counter(skipped.why for skipped in survey.skipped)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "it lists none"
        raise DataError("no case in the source", why=why, fix="check the folder's content against the format")
    twice = [name for name, count in Counter(case.id for case in survey.cases).items() if count > 1]
    if twice:
        raise DataError("cases of one name", why=some(sorted(twice), 6), fix="rename them in the source")
    return sorted(survey.cases, key=lambda case: (case.split, case.id))


def _dataset_json(name: str, survey: Survey, converted: Sequence[CaseOutcome]) -> dict[str, Any]:
    prompts = {label: survey.class_prompts.get(label, class_words(label)) for label in survey.labels}
    content: dict[str, Any] = {
        **survey.information,
        "name": name,
        "channel_names": {str(index): channel for index, channel in enumerate(survey.channels)},
        "labels": {"background": 0, **survey.labels},
        "numTraining": sum(outcome.split == "Tr" for outcome in converted),
        "file_ending": survey.file_ending,
        "dimensionality": 2 if all(outcome.flat for outcome in converted) else 3,
        "class_prompts": prompts,
        "converted_by": f"medmoe {medmoe_cli.__version__} from {survey.format}",
    }
    if survey.modality:
        # By channel, as the Decathlon writes it: nnU-Net takes the length of this value for the number of channels.
        content["modality"] = dict.fromkeys(content["channel_names"], survey.modality)
    if any(outcome.patient != outcome.id for outcome in converted):
        content["patients"] = {outcome.id: outcome.patient for outcome in converted}
    if any(source != target for source, target in survey.value_map.items()):
        content["source_values"] = {
            str(value): list(_sources(survey, value)) for value in sorted(survey.labels.values())
        }
    return content


def _sources(survey: Survey, value: int) -> tuple[int, ...]:
    return tuple(sorted(source for source, target in survey.value_map.items() if target == value))


def _summary(root: Path, survey: Survey, outcomes: Sequence[CaseOutcome], *, limited: int) -> Written:
    converted = [outcome for outcome in outcomes if not outcome.failure]
    counted = Counter(note for outcome in converted for note in set(outcome.notes))
    notes = [*survey.notes, *(f"{note} ({count} cases)" for note, count in counted.most_common(12))]
    if limited:
        notes.append(f"--limit left {limited} cases out")
    patients = {outcome.patient for outcome in converted}
    if len(patients) == len(converted) and (hint := _patient_hint([outcome.id for outcome in converted])):
        notes.append(hint)
    return Written(
        root=root,
        training=sum(outcome.split == "Tr" for outcome in converted),
        test=sum(outcome.split == "Ts" for outcome in converted),
        failed=tuple(Skipped(what=outcome.id, why=outcome.failure) for outcome in outcomes if outcome.failure),
        skipped=survey.skipped,
        classes=tuple(
            ClassRow(
                name=name,
                value=value,
                source_values=_sources(survey, value),
                cases=sum(outcome.voxels.get(value, 0) > 0 for outcome in converted),
                voxels=sum(outcome.voxels.get(value, 0) for outcome in converted),
            )
            for name, value in survey.labels.items()
        ),
        patients=len(patients),
        notes=tuple(notes),
        inputs={path: digest for outcome in converted for path, digest in outcome.inputs.items()},
    )


def _patient_hint(ids: Sequence[str]) -> str:
    """A warning when ids look like several slices of fewer patients ('ABD_001_100')."""
    groups = {match[1] for name in ids if (match := _SLICE_LIKE.fullmatch(name))}
    if 1 < len(groups) < len(ids):
        return (
            f"each case counts as its own patient, but the names look like {len(groups)} patients: "
            r"--patient-regex '(.+)_\d+' keeps a patient's cases on one side of a split"
        )
    return ""
