"""The errors a user can meet, and the exit code each ends with.

One line each: what, where, why, and the next command to type. Everything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MedMoEError(Exception):
    """A problem that the user can act on.

    Args:
        what: the problem, a short phrase ("label has another grid").
        where: the file, dataset, key or case it is about.
        why: the reason, with the values seen.
        fix: the next command or edit.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path | None = None, why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, str(where) if where is not None else "", why, fix
        super().__init__(self.line())

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross from worker processes to the one that reports them."""
        return _restore, (type(self), dict(self.__dict__))

    def line(self) -> str:
        """`WHAT in WHERE: WHY. fix: NEXT`, on one line."""
        text = self.what
        if self.where:
            text += f" in {self.where}"
        if self.why:
            text += f": {self.why}"
        text = " ".join(text.split()).rstrip(".")
        if self.fix:
            text += f"{'' if text.endswith('?') else '.'} fix: {' '.join(self.fix.split())}"
        return text


def _restore(kind: type[MedMoEError], state: dict[str, object]) -> MedMoEError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (error.line(),)
    return error


class ConfigError(MedMoEError):
    """Wrong usage, option, preset or key."""

    exit_code = 2


class DataError(MedMoEError):
    """An image, label or dataset that cannot be used."""

    exit_code = 3


class GeometryError(DataError):
    """Two grids that should agree do not, or a grid that no scan can have."""


class CheckpointError(MedMoEError):
    """A checkpoint, model folder or weights file that cannot be used."""

    exit_code = 4


class ResourceError(MedMoEError):
    """No disk, no memory, or a worker that died."""

    exit_code = 5


class PartialError(MedMoEError):
    """Some cases failed, the others are done."""

    exit_code = 6


class InterruptedRun(MedMoEError):
    """Ctrl-C or SIGTERM; the state is saved. `exit_code` is 130 or 143."""

    def __init__(self, what: str, *, signal_number: int, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.exit_code = 128 + signal_number


class ProblemList(MedMoEError):
    """Several problems of one input, reported together, one line each."""

    def __init__(self, problems: Sequence[MedMoEError]) -> None:
        if not problems:
            raise ValueError("ProblemList needs at least one problem")
        self.problems = tuple(problems)
        first = problems[0]
        super().__init__(first.what, where=first.where, why=first.why, fix=first.fix)
        self.exit_code = first.exit_code


def raise_all(problems: Sequence[MedMoEError]) -> None:
    """Raise nothing, the one problem, or all of them together."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ProblemList(problems)
