"""evaluate: compare predictions with references, and write numbers that say what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError, MedMoEError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.formats import PICTURES, ending_of
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.metrics.aggregate import aggregate
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.conventions import convention as find_convention
from medmoe_cli.core.metrics.overlap import present_values
from medmoe_cli.core.metrics.scores import LabelPair, UnitScores
from medmoe_cli.core.metrics.summary import CaseFiles, EvaluationSummary
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.scoring.evaluation_inputs import grid_problems, pair_files, problems_of
from medmoe_cli.core.workflows.scoring.evaluation_labels import (
    LabelNames,
    check_tolerances,
    classes_of_values,
    find_label_names,
    renumbering,
)

__all__ = ["EvaluationSummary", "ScoredClass", "Tolerances", "run_evaluate"]

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One case for a worker; without classes its values are looked at and nothing is scored.

    `renumber` gives values of the prediction the references' numbers.
    """

    files: CaseFiles
    classes: tuple[ScoredClass, ...]
    ignore: int | None
    convention: str
    tolerances: Tolerances
    renumber: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Done:
    """What a worker found: scores and values, or problems."""

    case_id: str
    units: tuple[UnitScores, ...] = ()
    values: tuple[int, ...] = ()
    problems: tuple[MedMoEError, ...] = ()


def run_evaluate(
    *,
    predictions: Path,
    references: Path,
    output: Path | None = None,
    dataset: Path | None = None,
    classes: tuple[ScoredClass, ...] | None = None,
    tolerances: Tolerances | None = None,
    convention: str = "medmoe",
    workers: int | None = None,
    ignore_geometry: bool = False,
    ignore_missing: bool = False,
    seed: int = 0,
    renumber: Mapping[int, int] | None = None,
    reporter: Reporter,
) -> EvaluationSummary:
    """Score every reference's prediction.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps with the same names (endings may differ), or one file.
        output: summary.json, or the folder to write it into; run.json goes beside it. None writes nothing.
        dataset: folder (or dataset.json) that names the labels; else one in or beside either folder; else the values
            that occur are scored under their numbers.
        classes: what to score, instead of what a dataset.json says.
        tolerances: of NSD, by class name or for all.
        convention: medmoe, nnunet, transunet or segmote.
        workers: processes; None chooses.
        ignore_geometry: compare voxel by voxel although the grids lie elsewhere in space (shapes must agree).
        ignore_missing: score the cases that have a prediction, and warn of the others.
        seed: of the confidence intervals.
        renumber: values of the predictions to the references'; None for what the files' names say.
        reporter: receives progress and warnings.

    Raises:
        DataError: nothing to compare, missing predictions, unreadable files; all of them together.
        GeometryError: a prediction lies on another grid than its reference.
        ConfigError: an unknown convention, or a tolerance for a class that does not exist.
        ResourceError: a worker died, or the summary cannot be written.
    """
    target = _summary_path(output)
    arguments = {
        "predictions": predictions,
        "references": references,
        "output": target,
        "dataset": dataset,
        "convention": convention,
        "tolerances": tolerances,
        "workers": workers,
        "ignore_geometry": ignore_geometry,
        "ignore_missing": ignore_missing,
    }
    folder = None if target is None else target.parent
    with RunRecorder("evaluate", folder=folder, reporter=reporter, arguments=arguments, seed=seed) as run:
        rules = find_convention(convention)
        names = LabelNames(classes=classes)
        if classes is None:
            names = find_label_names(dataset, _folders(references, predictions))
        tolerances = tolerances or Tolerances()
        if names.classes is not None:
            tolerances = check_tolerances(tolerances, names.classes)
        pairing = pair_files(predictions, references, ignore_missing=ignore_missing)
        for warning in pairing.warnings:
            run.warn(warning)
        problems = (*pairing.problems, *grid_problems(pairing.pairs, ignore_geometry=ignore_geometry))
        count = worker_count(workers, len(pairing.pairs))
        scored = names.classes
        if problems or scored is None:
            # Voxels are read here for their defects and values only: a folder's faults are reported in one go.
            values = _read_all(pairing.pairs, problems, names, tolerances, rules.name, workers=count, reporter=run)
            if scored is None:
                scored = classes_of_values(values)
                run.info("no dataset.json names the labels; classes are called by their values")
                tolerances = check_tolerances(tolerances, scored)
        if not scored:
            raise DataError(
                "nothing to score", where=references, why="there is only background", fix="check the folders"
            )
        if renumber is None:
            renumber = renumbering(predictions, scored) if classes is None else {}
        if renumber and classes is None:
            changed = ", ".join(f"{value} is {number}" for value, number in sorted(renumber.items()) if number)
            run.info(f"the predictions' dataset.json numbers the classes differently; by name, {changed}")
        jobs = [_job(pair, scored, names, tolerances, rules.name, renumber) for pair in pairing.pairs]
        done = _work(jobs, workers=count, reporter=run, task="evaluate")
        raise_all([problem for item in done for problem in item.problems])
        _warn_of_the_unusual(done, scored, names, pairing.pairs, has_distances=_has_distances(rules.name), run=run)
        units = tuple(unit for item in done for unit in item.units)
        if not units:
            raise DataError(
                "nothing to score",
                where=references,
                why=f"no reference has any of the classes {', '.join(item.name for item in scored)}",
                fix="check the labels of the references and in dataset.json",
            )
        summary = EvaluationSummary(
            convention=rules,
            classes=scored,
            tolerances=tolerances,
            cases=pairing.pairs,
            units=units,
            aggregate=aggregate(units, scored, rules, patients=names.patients, seed=seed),
            seed=seed,
        )
        if target is not None:
            for pair in pairing.pairs:
                run.add_input(pair.reference)
                run.add_input(pair.prediction)
            run.add_output(jsonio.write(target, summary.to_json()))
        return summary


def _summary_path(output: Path | None) -> Path | None:
    if output is None or (output.suffix == ".json" and not output.is_dir()):
        return output
    return output / SUMMARY_NAME


def _folders(*places: Path) -> list[Path]:
    return [place.parent if place.is_file() else place for place in places]


def _has_distances(convention: str) -> bool:
    return any(column.unit == "mm" for column in find_convention(convention).columns)


def _job(
    pair: CaseFiles,
    classes: tuple[ScoredClass, ...],
    names: LabelNames,
    tolerances: Tolerances,
    convention: str,
    renumber: Mapping[int, int],
) -> _Job:
    return _Job(
        files=pair,
        classes=classes,
        ignore=names.ignore,
        convention=convention,
        tolerances=tolerances,
        renumber=renumber,
    )


def _read_all(
    pairs: Sequence[CaseFiles],
    problems: Sequence[MedMoEError],
    names: LabelNames,
    tolerances: Tolerances,
    convention: str,
    *,
    workers: int,
    reporter: Reporter,
) -> list[int]:
    """The values that occur in any file.

    Raises:
        MedMoEError: the problems found before, and those of reading, each once.
    """
    jobs = [_job(pair, (), names, tolerances, convention, {}) for pair in pairs]
    done = _work(jobs, workers=workers, reporter=reporter, task="read")
    found = {problem.line(): problem for problem in problems}
    for item in done:
        for problem in item.problems:
            found.setdefault(problem.line(), problem)
    raise_all(list(found.values()))
    return sorted({value for item in done for value in item.values})


def _work(jobs: Sequence[_Job], *, workers: int, reporter: Reporter, task: str) -> list[_Done]:
    reporter.start(task, len(jobs))
    done: list[_Done] = []
    try:
        for item in each(_one_case, jobs, workers=workers, name=lambda job: job.files.case_id):
            detail = item.problems[0].line() if item.problems else ""
            reporter.advance(item.case_id, status="failed" if item.problems else "ok", detail=detail)
            done.append(item)
    finally:
        reporter.finish()
    return done


def _one_case(job: _Job) -> _Done:
    """Read a case and score it; runs in a worker."""
    problems: list[MedMoEError] = []
    maps = []
    for path in (job.files.reference, job.files.prediction):
        try:
            maps.append(read_labels(path))
        except MedMoEError as error:
            problems.extend(problems_of(error))
    if problems:
        return _Done(case_id=job.files.case_id, problems=tuple(problems))
    reference, prediction = maps
    if not job.classes:
        values = present_values(reference.data, prediction.data)
        return _Done(case_id=job.files.case_id, values=tuple(values.tolist()))
    pair = LabelPair(
        case_id=job.files.case_id,
        reference=reference.data,
        prediction=_renumbered(prediction.data, job.renumber),
        spacing_mm=reference.geometry.spacing_mm,
        ignore=job.ignore,
    )
    units = find_convention(job.convention).score(pair, job.classes, job.tolerances)
    return _Done(case_id=job.files.case_id, units=units, values=tuple(pair.pairs.values.tolist()))


def _renumbered(labels: NDArray[np.integer], numbers: Mapping[int, int]) -> NDArray[np.integer]:
    """A label map in the references' numbers; values that nobody names stay."""
    if not numbers:
        return labels
    table = np.arange(max(int(labels.max(initial=0)), *numbers, *numbers.values()) + 1, dtype=np.uint16)
    table[list(numbers)] = list(numbers.values())
    return np.asarray(table[labels])


def _warn_of_the_unusual(
    done: Sequence[_Done],
    classes: Sequence[ScoredClass],
    names: LabelNames,
    pairs: Sequence[CaseFiles],
    *,
    has_distances: bool,
    run: RunRecorder,
) -> None:
    known = {0, names.ignore, *(value for scored in classes for value in scored.values)}
    strange = sorted({value for item in done for value in item.values} - known)
    if strange:
        cases = [item.case_id for item in done if np.isin(item.values, strange).any()]
        where = names.origin or "the classes asked for"
        run.warn(
            f"values that {where} does not name are not scored: {', '.join(map(str, strange[:12]))} "
            f"(first in {cases[0]}, {len(cases)} case{'s' if len(cases) > 1 else ''})"
        )
    if has_distances and any(ending_of(pair.reference) in PICTURES for pair in pairs):
        run.warn("pictures carry no voxel size: distances and volumes count a pixel as 1 mm")
