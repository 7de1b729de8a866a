"""One writer for all converters: a survey becomes an nnU-Net v2 folder, whole or not at all.

Cases go into a hidden sibling of the dataset, `.converting-NAME`, that becomes the dataset at the end in one step. A
conversion that is stopped leaves that sibling, and the next one of the same name takes its finished cases over.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.lock import exclusive
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.class_words import class_words
from medmoe_cli.core.data.converters.source import SourceCase, Survey
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.splits import FILE_NAME as SPLITS
from medmoe_cli.core.data.workers import each
from medmoe_cli.core.data.write_case import RECORDS, CaseOutcome, CaseWriter, Spelling
from medmoe_cli.core.data.written import Written, kept_folds, planned, sources_of, summary

__all__ = ["Written", "plan_dataset", "require_absent", "unfinished", "write_dataset"]


def unfinished(root: Path) -> Path:
    """Where the cases of a dataset lie until it is whole."""
    return root.with_name(f".converting-{root.name}")


def write_dataset(
    root: Path,
    survey: Survey,
    *,
    overwrite: bool,
    workers: int,
    limit: int | None,
    reporter: Reporter,
    spelling: Spelling | None = None,
) -> Written:
    """Write a survey's cases and its dataset.json.

    An existing dataset stays as it is until the new one is whole.

    Args:
        root: the dataset's folder.
        survey: what to write.
        overwrite: replace an existing folder.
        workers: processes.
        limit: only the first cases.
        reporter: hears of every case.
        spelling: of the source's paths, where it is an archive.

    Raises:
        ConfigError: the folder exists and `overwrite` is False.
        DataError: there is no case, two have one id, or none could be converted.
        ResourceError: no disk, no memory, a dead worker, or another conversion to this name; finished cases are kept.
    """
    require_absent(root, overwrite=overwrite)
    spelling = spelling or Spelling()
    cases = _checked(survey)[:limit]
    outcomes: list[CaseOutcome] = []
    folder = unfinished(root)
    atomic.sweep(root.parent)
    with exclusive(folder):
        reporter.start("convert", len(cases))
        writer = CaseWriter.of(survey, folder, spelling)
        for outcome in each(writer, cases, workers=workers, name=lambda case: case.id):
            outcomes.append(outcome)
            status = "failed" if outcome.failure else "cached" if outcome.cached else "ok"
            reporter.advance(outcome.id, status=status, detail=outcome.failure)
        reporter.finish()
        converted = [outcome for outcome in outcomes if not outcome.failure]
        if not converted:
            shutil.rmtree(folder)
            first = outcomes[0].failure
            raise DataError("no case could be converted", where=root.name, why=f"the first of {len(outcomes)}: {first}")
        _leave_only(folder, converted)
        folds = kept_folds(survey, {outcome.id for outcome in converted if outcome.split == "Tr"})
        own_splits = survey.splits is not None and len(converted) == len(survey.cases) and not folds
        if folds:
            jsonio.write(folder / SPLITS, [{"train": fold.train, "val": fold.val} for fold in folds])
        elif own_splits:
            assert survey.splits is not None
            shutil.copyfile(survey.splits, folder / SPLITS)
        jsonio.write(folder / "dataset.json", _dataset_json(root.name, survey, converted))
        (folder / ".lock").unlink()
        atomic.place_dir(folder, root)
    limited = len(survey.cases) - len(cases)
    return summary(root, survey, outcomes, limited=limited, folds=folds, own_splits=own_splits, spelling=spelling)


def plan_dataset(root: Path, survey: Survey, *, limit: int | None, spelling: Spelling | None = None) -> Written:
    """What `write_dataset` would write; nothing is.

    Raises:
        DataError: there is no case, or two have one id.
    """
    cases = _checked(survey)[:limit]
    limited = len(survey.cases) - len(cases)
    return planned(root, survey, cases, limited=limited, spelling=spelling or Spelling())


def require_absent(root: Path, *, overwrite: bool) -> None:
    """Refuse to replace a dataset without being told to.

    Raises:
        ConfigError: there is something at `root`.
    """
    if root.exists() and not overwrite and any(root.iterdir()):
        raise ConfigError("the dataset exists", where=root, fix="choose another --name, or add --overwrite")


def _leave_only(folder: Path, converted: Sequence[CaseOutcome]) -> None:
    """Take away the records, and what an earlier conversion by other rules left."""
    shutil.rmtree(folder / RECORDS)
    wanted = {name for outcome in converted for name in outcome.outputs}
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in wanted and name != ".lock":
            path.unlink()
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(exist_ok=True)


def _checked(survey: Survey) -> list[SourceCase]:
    if not survey.cases:
        reasons = Counter(skipped.why for skipped in survey.skipped)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "it lists none"
        raise DataError("no case in the source", why=why, fix="check the folder's content against the format")
    twice = [name for name, count in Counter(case.id for case in survey.cases).items() if count > 1]
    if twice:
        first = sorted(twice)[0]
        files = [str(case.files[0]) for case in survey.cases if case.id == first and case.files]
        why = f"{some(sorted(twice), 6)}; {first}: {' and '.join(files[:2])}"
        raise DataError("cases of one name", why=why, fix="remove one of each, or rename it where it is another scan")
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
            str(value): list(sources_of(survey, value)) for value in sorted(survey.labels.values())
        }
    return content
