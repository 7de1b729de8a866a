"""check: every defect of a dataset in one pass, kept so that training need not look again.

WORKSPACE/preprocessed/NAME/check.json holds the findings and a key of the files they were found in. A collection's
members are checked one by one, each only when its own files have changed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.check_collection import check_collection, collection_key
from medmoe_cli.core.data.checks import CODES, CheckReport, check_dataset, check_key
from medmoe_cli.core.data.collection import is_collection
from medmoe_cli.core.data.finding import raise_errors
from medmoe_cli.core.data.stored import read_stored
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.named_dataset import named_folder

__all__ = ["CODES", "CheckResult", "ensure_checked", "run_check"]

FILE_NAME = "check.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """A finished check.

    Attributes:
        root: the dataset's folder.
        report: what was found.
        file: where it is kept.
        fresh: False when an earlier report of the same files was taken.
        exit_code: 3 when there is an error.
        members: the reports of a collection's members.
    """

    root: Path
    report: CheckReport
    file: Path
    fresh: bool
    exit_code: int
    members: tuple[CheckReport, ...] = ()


def run_check(*, workspace: Workspace, data: str, workers: int | None = None, reporter: Reporter) -> CheckResult:
    """Check a dataset given by name or path; findings do not raise, they are the result.

    Raises:
        DataError: there is no such dataset.
        ResourceError: a worker died, or the disk is full.
    """
    root = _root(workspace, data)
    folder = workspace.preprocessed / root.name
    with RunRecorder("check", folder=None, reporter=reporter, arguments={"data": data}) as recorder:
        if is_collection(root):
            members = _Members(workspace, workers, recorder)
            report = check_collection(root, check_member=members.check, splits_folder=folder)
        else:
            members = None
            report = check_dataset(root, splits_folders=(folder,), workers=workers, reporter=recorder)
        recorder.folder = folder
        recorder.add_output(jsonio.write(folder / FILE_NAME, report))
        recorder.warnings += [
            f"{finding.code} {finding.file or finding.case}: {finding.message}" for finding in report.findings
        ]
        recorder.exit_code = DataError.exit_code if report.errors else 0
    return CheckResult(
        root=root,
        report=report,
        file=folder / FILE_NAME,
        fresh=True,
        exit_code=recorder.exit_code,
        members=() if members is None else tuple(members.reports),
    )


class _Members:
    """Checks members, and keeps their reports where checking them by themselves does."""

    def __init__(self, workspace: Workspace, workers: int | None, reporter: Reporter) -> None:
        self._workspace, self._workers, self._reporter = workspace, workers, reporter
        self.reports: list[CheckReport] = []

    def check(self, root: Path) -> CheckReport:
        file = self._workspace.preprocessed / root.name / FILE_NAME
        report = read_stored(file, CheckReport)
        if report is None or report.key != check_key(root):
            report = check_dataset(root, splits_folders=(file.parent,), workers=self._workers, reporter=self._reporter)
            jsonio.write(file, report)
        self.reports.append(report)
        return report


def ensure_checked(*, workspace: Workspace, data: str, workers: int | None = None, reporter: Reporter) -> CheckResult:
    """The check of a dataset, repeated only when its files have changed.

    Raises:
        DataError: the dataset has errors, all of them together.
        ResourceError: a worker died, or the disk is full.
    """
    root = _root(workspace, data)
    folder = workspace.preprocessed / root.name
    stored = read_stored(folder / FILE_NAME, CheckReport)
    key = collection_key(root) if is_collection(root) else check_key(root)
    if stored is not None and stored.key == key:
        code = DataError.exit_code if stored.errors else 0
        result = CheckResult(root=root, report=stored, file=folder / FILE_NAME, fresh=False, exit_code=code)
    else:
        result = run_check(workspace=workspace, data=data, workers=workers, reporter=reporter)
    raise_errors(result.report.findings, root)
    return result


def _root(workspace: Workspace, data: str) -> Path:
    """The dataset's folder. One that lost its dataset.json is checked too; one that never was a dataset is refused."""
    named = workspace.datasets / data
    path = named if named.is_dir() else Path(data)
    if (path / "imagesTr").is_dir() or (path / "labelsTr").is_dir():
        return path.resolve()
    return named_folder(workspace, data).resolve()
