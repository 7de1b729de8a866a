"""Which bytes a dataset's training cases consist of, so that what was made from other bytes is noticed.

`inputs.json` keeps each file's size, time and sha256. A file whose size and time are as recorded is taken as
unchanged; any other is read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.stored import read_stored

FILE_NAME = "inputs.json"


class FileFacts(Section):
    """One file as it was when it was read."""

    size_bytes: int
    modified_ns: int
    sha256: str


class Inputs(Section):
    """The files of a dataset's training cases by path, relative to the dataset where they lie in it."""

    schema_version: int = 1
    dataset: str
    channels: tuple[str, ...]
    cases: dict[str, dict[str, FileFacts]]

    @property
    def sha256(self) -> str:
        """Digest over names and bytes of all cases."""
        return value_sha256([self.dataset, list(self.channels), {case: self.case_sha256(case) for case in self.cases}])

    def case_sha256(self, case: str) -> str:
        """Digest over names and bytes of one case's files."""
        return value_sha256([[name, facts.sha256] for name, facts in self.cases[case].items()])


def read_inputs(folder: Path) -> Inputs | None:
    """The inputs recorded in a preprocessed folder; None when there are none, or they cannot be used."""
    return read_stored(folder / FILE_NAME, Inputs)


def list_inputs(dataset: Dataset, *, known: Inputs | None = None) -> Inputs:
    """Take stock of a dataset's training files; those whose size and time are in `known` are not read."""
    before = known.cases if known is not None else {}
    return Inputs(
        dataset=dataset.name,
        channels=dataset.channels,
        cases={case.id: case_inputs(case, dataset.root, before.get(case.id, {})) for case in dataset.training},
    )


def case_inputs(case: Case, root: Path, known: Mapping[str, FileFacts]) -> dict[str, FileFacts]:
    """Take stock of one case's files."""
    return {relative(path, root): _facts(path, known.get(relative(path, root))) for path in case_files(case)}


def case_files(case: Case) -> tuple[Path, ...]:
    """A case's images in channel order, then its label."""
    return case.images if case.label is None else (*case.images, case.label)


def relative(path: Path, root: Path) -> str:
    """A path as recorded: relative to the dataset, so that a dataset may be moved."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _facts(path: Path, known: FileFacts | None) -> FileFacts:
    state = path.stat()
    if known is not None and (known.size_bytes, known.modified_ns) == (state.st_size, state.st_mtime_ns):
        return known
    return FileFacts(size_bytes=state.st_size, modified_ns=state.st_mtime_ns, sha256=file_sha256(path))
