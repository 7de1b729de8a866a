"""Finding: one defect of a dataset, with a code that never changes its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.errors import DataError, raise_all


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One defect.

    Attributes:
        code: stable name of the kind of defect ('label-shape').
        severity: an error makes the dataset unfit for training; a warning deserves a look.
        message: what is wrong, with the values seen.
        fix: the next command or edit.
        case: the case it is about, '' when it is about the dataset.
        file: the file, relative to the dataset's folder, '' when it is about no single file.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    fix: str
    case: str = ""
    file: str = ""

    def as_error(self, root: Path) -> DataError:
        """The same as an exception."""
        return DataError(self.message, where=root / self.file if self.file else root, why=self.code, fix=self.fix)


def error(code: str, message: str, *, fix: str, case: str = "", file: str = "") -> Finding:
    """A finding that makes the dataset unfit for training."""
    return Finding(code=code, severity="error", message=message, fix=fix, case=case, file=file)


def warning(code: str, message: str, *, fix: str, case: str = "", file: str = "") -> Finding:
    """A finding that deserves a look."""
    return Finding(code=code, severity="warning", message=message, fix=fix, case=case, file=file)


def raise_errors(findings: Sequence[Finding], root: Path) -> None:
    """Raise every error among the findings together; nothing when there is none.

    Raises:
        DataError: at least one finding is an error.
    """
    raise_all([finding.as_error(root) for finding in findings if finding.severity == "error"])
