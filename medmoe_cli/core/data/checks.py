"""Every defect of a dataset in one pass: its dataset.json, its file names, its voxels, and what shows across cases.

A defect is a Finding with a stable code; CODES says what each means.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import medmoe_cli
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.data.check_across import duplicates, label_coverage, leaks, mixed_dimensions, split_problems
from medmoe_cli.core.data.check_case import CaseJob, CaseReport, examine_case
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.dataset_file import read_dataset_file
from medmoe_cli.core.data.filenames import files_below
from medmoe_cli.core.data.finding import Finding
from medmoe_cli.core.data.index import assemble
from medmoe_cli.core.data.inputs import relative
from medmoe_cli.core.data.listing import Listing, list_cases
from medmoe_cli.core.data.workers import each, worker_count

CODES = MappingProxyType(
    {
        "json-missing": "no dataset.json",
        "json-invalid": "dataset.json is not JSON",
        "json-format": "dataset.json of another format",
        "json-key": "a key of dataset.json is missing or wrong",
        "labels-regions": "label regions, which are not supported",
        "labels-ignore": "an ignore label, which is not supported",
        "labels-gap": "label values are not consecutive",
        "num-training": "numTraining differs from the number of cases",
        "patients-unknown": "'patients' names cases that do not exist",
        "no-cases": "no training case",
        "file-name": "an image without a channel number",
        "file-missing": "dataset.json lists a file that is not there",
        "file-empty": "a file without bytes",
        "file-orphan": "a file that is neither image nor label",
        "file-corrupt": "a truncated or damaged file",
        "file-format": "a file that is not what its ending says",
        "file-unreadable": "a file that cannot be read for another reason",
        "ending-mixed": "an image or label of another ending than the dataset's",
        "label-missing": "a training image without a label",
        "image-missing": "a label without an image",
        "channel-missing": "a channel's file is missing",
        "channel-extra": "more channel files than channels",
        "channel-shape": "channels of different sizes",
        "channel-grid": "channels on different grids",
        "channel-duplicate": "two channels of a case with the same voxels",
        "case-clash": "case names that differ only in upper and lower case",
        "case-in-both": "a case in imagesTr and imagesTs",
        "case-duplicate": "two cases with the same voxels",
        "dimensions-mixed": "single slices among volumes",
        "image-4d": "several volumes in one file",
        "image-channels": "another number of channels than declared",
        "image-constant": "all voxels of an image are equal",
        "image-label-swapped": "image and label are exchanged",
        "not-finite": "NaN or infinite voxels",
        "affine-bad": "an affine that no scan can have",
        "qform-sform": "qform and sform disagree",
        "no-orientation": "a NIfTI without qform and sform",
        "spacing-units": "a voxel size that suggests another unit than mm",
        "label-shape": "image and label of different sizes",
        "label-spacing": "image and label of different voxel sizes",
        "label-direction": "image and label of different directions",
        "label-origin": "image and label at different places",
        "grid-rounding": "grids that differ by less than a tenth of a voxel",
        "label-4d": "a label file with several volumes or colours",
        "label-float": "label values that are no whole numbers",
        "label-values": "label values that are not declared",
        "label-empty": "a label without foreground",
        "all-background": "no training label has a declared class",
        "class-absent": "a declared class that never occurs",
        "splits-invalid": "a splits file that cannot be used",
        "splits-unknown-case": "splits that name unknown cases",
        "splits-patient": "a patient in the train and val side of a fold",
        "patient-train-test": "a patient in imagesTr and imagesTs",
        "member-missing": "a member of a collection is not there",
        "member-collection": "a member of a collection is a collection",
        "member-classes": "classes of a member that do not fit the collection",
        "selection-invalid": "a selection.csv that cannot be used",
    }
)
"""Every code, with its meaning."""


class CheckReport(Section):
    """A finished check, as stored in check.json.

    Attributes:
        key: of the files that were checked; another key means that they have changed.
        num_training, num_test: cases looked at, complete or not.
        findings: errors first, then by file.
    """

    schema_version: int = 1
    dataset: str
    key: str
    num_training: int
    num_test: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes the dataset unfit for training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def check_dataset(
    root: Path, *, splits_folders: Sequence[Path], workers: int | None, reporter: Reporter
) -> CheckReport:
    """Look at everything.

    Args:
        root: the dataset's folder.
        splits_folders: where a splits_final.json may lie besides.
        workers: processes; None chooses.
        reporter: hears of every case.

    Raises:
        ResourceError: a worker died.
    """
    root = root.resolve()
    key = check_key(root)
    file, findings = read_dataset_file(root)
    if file is None:
        return CheckReport(dataset=root.name, key=key, num_training=0, num_test=0, findings=ordered(findings))
    listing = list_cases(root, file)
    training, test = (*listing.training, *listing.damaged_training), (*listing.test, *listing.damaged_test)

    def job(case: Case, split: Literal["Tr", "Ts"]) -> CaseJob:
        return CaseJob(case=case, split=split, root=root, channels=file.channels, labels=file.labels)

    jobs = [*(job(case, "Tr") for case in training), *(job(case, "Ts") for case in test)]
    reports: list[CaseReport] = []
    reporter.start("check", len(jobs))
    for report in each(examine_case, jobs, workers=worker_count(workers, len(jobs)), name=lambda job: job.case.id):
        reports.append(report)
        bad = [finding for finding in report.findings if finding.severity == "error"]
        reporter.advance(
            report.job.case.id,
            status="failed" if bad else "ok",
            detail="; ".join(f"{finding.code}: {finding.message}" for finding in bad),
        )
    reporter.finish()
    everything = assemble(root, file, _with_damaged(listing))
    findings += listing.findings
    findings += [finding for report in reports for finding in report.findings]
    findings += duplicates(reports) + leaks(everything) + label_coverage(reports, file) + mixed_dimensions(reports)
    findings += split_problems(everything, (root, *splits_folders))
    return CheckReport(
        dataset=root.name,
        key=key,
        num_training=len(training),
        num_test=len(test),
        findings=ordered(findings),
    )


def check_key(root: Path) -> str:
    """Digest of names, sizes and times of a dataset's files, and of the program's version.

    A splits file elsewhere is not part of it: planning writes one, and every reader validates it.
    """
    facts = [
        [relative(path, root), path.stat().st_size, path.stat().st_mtime_ns]
        for path in files_below(root)
        if path.name != "run.json"
    ]
    return value_sha256([medmoe_cli.__version__, facts])


def _with_damaged(listing: Listing) -> Listing:
    """All cases as if they were complete: a splits file may name the damaged ones."""
    return Listing(
        training=(*listing.training, *listing.damaged_training),
        test=(*listing.test, *listing.damaged_test),
        damaged_training=(),
        damaged_test=(),
        findings=(),
    )


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by case and file."""
    return tuple(sorted(findings, key=lambda one: (one.severity != "error", one.case, one.file, one.code)))
