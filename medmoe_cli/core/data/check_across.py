"""Defects that show only when all cases are known: duplicates, leaks, classes that never occur."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medmoe_cli.core.base.errors import DataError, ProblemList
from medmoe_cli.core.data.check_case import CaseReport
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.dataset_file import DatasetFile
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.finding import Finding, error, warning
from medmoe_cli.core.data.splits import FILE_NAME, read_splits

_SPLIT_CODES = {"a patient in train and val": "splits-patient", "unknown cases": "splits-unknown-case"}


def duplicates(reports: Sequence[CaseReport]) -> list[Finding]:
    """Cases with the same voxels; in training and test it is a leak, within training it deserves a look."""
    by_content: dict[str, list[tuple[CaseReport, str]]] = defaultdict(list)
    for report in reports:
        for file, digest in report.contents.items():
            by_content[digest].append((report, file))
    found: list[Finding] = []
    told: set[tuple[str, ...]] = set()
    for twins in by_content.values():
        cases = tuple(sorted({report.job.case.id for report, _ in twins}))
        if len(cases) < 2 or cases in told:
            continue
        told.add(cases)
        splits = {report.job.split for report, _ in twins}
        make = error if len(splits) > 1 else warning
        where = "in training and test" if len(splits) > 1 else "in one dataset"
        message = f"the same voxels as {some(cases[1:])}, {where}"
        fix = f"remove {cases[-1]}, or give them one patient under 'patients' in dataset.json"
        found.append(make("case-duplicate", message, fix=fix, case=cases[0], file=twins[0][1]))
    return found


def leaks(dataset: Dataset) -> list[Finding]:
    """Patients with cases in imagesTr and in imagesTs."""
    training = {case.patient for case in dataset.training}
    shared = sorted(training & {case.patient for case in dataset.test})
    fix = "move all cases of a patient to one side, or correct 'patients' in dataset.json"
    return [
        error("patient-train-test", f"patient '{patient}' has training and test cases", fix=fix, file="dataset.json")
        for patient in shared
    ]


def split_problems(dataset: Dataset, folders: Sequence[Path]) -> list[Finding]:
    """What is wrong with splits_final.json, in the dataset's folder or the preprocessed one."""
    found: list[Finding] = []
    for folder in folders:
        path = folder / FILE_NAME
        if not path.is_file():
            continue
        try:
            read_splits(path, dataset)
        except ProblemList as several:
            found += [_split_finding(problem, path, dataset.root) for problem in several.problems]
        except DataError as problem:
            found.append(_split_finding(problem, path, dataset.root))
    return found


def label_coverage(reports: Sequence[CaseReport], file: DatasetFile) -> list[Finding]:
    """Classes that never occur in the training labels; all of them never is an error."""
    known = [report.voxels for report in reports if report.job.split == "Tr" and report.voxels is not None]
    if not known:
        return []
    present = {value for voxels in known for value, count in voxels.items() if count > 0}
    absent = [name for name, value in file.labels.items() if value not in present]
    if len(absent) == len(file.labels):
        message = "no training label has any of the declared classes"
        fix = "check that labelsTr holds label maps with the values of dataset.json"
        return [error("all-background", message, fix=fix, file="labelsTr")]
    fix = "remove it from labels in dataset.json, or add cases that have it"
    return [
        warning(
            "class-absent",
            f"class '{name}' (value {file.labels[name]}) occurs in no training label",
            fix=fix,
            file="dataset.json",
        )
        for name in absent
    ]


def mixed_dimensions(reports: Sequence[CaseReport]) -> list[Finding]:
    """Single slices among volumes."""
    flat = [report.job.case.id for report in reports if report.num_slices == 1]
    deep = [report.job.case.id for report in reports if report.num_slices > 1]
    if not flat or not deep:
        return []
    few, other = (flat, "volumes") if len(flat) <= len(deep) else (deep, "single slices")
    message = f"{some(few)} differ from the others, which are {other}"
    return [warning("dimensions-mixed", message, fix="keep 2D and 3D cases in datasets of their own", case=few[0])]


def _split_finding(problem: object, path: Path, root: Path) -> Finding:
    assert isinstance(problem, DataError)
    file = path.name if path.parent == root else str(path)
    code = _SPLIT_CODES.get(problem.what, "splits-invalid")
    return error(code, f"{problem.what}: {problem.why}", fix=problem.fix, file=file)
