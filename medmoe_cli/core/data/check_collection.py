"""Every defect of a collection: of its dataset.json, its selection and splits, and of each member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medmoe_cli.core.base.errors import MedMoEError, ProblemList
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.data.check_across import split_problems
from medmoe_cli.core.data.checks import CheckReport, check_key, ordered
from medmoe_cli.core.data.collection import is_collection, read_collection_file
from medmoe_cli.core.data.dataset_file import FILE_NAME
from medmoe_cli.core.data.finding import Finding, error
from medmoe_cli.core.data.index import open_collection


def check_collection(root: Path, *, check_member: Callable[[Path], CheckReport], splits_folder: Path) -> CheckReport:
    """Look at everything.

    Args:
        root: the collection's folder.
        check_member: gives a member's report, made now or earlier.
        splits_folder: where a splits_final.json may lie besides.
    """
    root = root.resolve()
    file, findings = read_collection_file(root)
    num_training = num_test = 0
    if file is not None:
        for source in file.sources:
            place = root.parent / source.dataset
            problem = _member_problem(root, place)
            if problem is not None:
                findings.append(problem)
                continue
            report = check_member(place)
            num_training += report.num_training
            num_test += report.num_test
            findings += [_of_member(finding, source.dataset) for finding in report.findings]
    if file is not None and not any(finding.severity == "error" for finding in findings):
        findings += _across(root, splits_folder)
    return CheckReport(
        dataset=root.name,
        key=collection_key(root),
        num_training=num_training,
        num_test=num_test,
        findings=ordered(findings),
    )


def collection_key(root: Path) -> str:
    """Digest of the collection's files and of all its members'."""
    root = root.resolve()
    file, _ = read_collection_file(root)
    members = [] if file is None else [root.parent / source.dataset for source in file.sources]
    return value_sha256([check_key(root), *(check_key(place) for place in members if place.is_dir())])


def _member_problem(root: Path, place: Path) -> Finding | None:
    if not (place / FILE_NAME).is_file() and not (place / "imagesTr").is_dir():
        return error(
            "member-missing",
            f"member '{place.name}' is not beside the collection",
            fix=f"medmoe convert SOURCE --format FORMAT --name {place.name}",
            file=FILE_NAME,
        )
    if place == root or is_collection(place):
        return error(
            "member-collection",
            f"member '{place.name}' is a collection itself",
            fix="name its members in 'sources'",
            file=FILE_NAME,
        )
    return None


def _of_member(finding: Finding, member: str) -> Finding:
    """A member's finding, its case and file named as the collection does."""
    return replace(
        finding,
        case=f"{member}/{finding.case}" if finding.case else "",
        file=f"{member}/{finding.file}" if finding.file else member,
    )


def _across(root: Path, splits_folder: Path) -> list[Finding]:
    """What shows only when all members can be opened: their classes, the selection, the splits."""
    try:
        dataset = open_collection(root)
    except MedMoEError as found:
        problems = found.problems if isinstance(found, ProblemList) else (found,)
        return [
            error(
                "selection-invalid" if str(one.where or "").endswith(".csv") else "member-classes",
                f"{one.what}: {one.why}" if one.why else one.what,
                fix=one.fix,
                file=FILE_NAME,
            )
            for one in problems
        ]
    return split_problems(dataset, (root, splits_folder))
