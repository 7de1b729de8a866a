"""One source case into imagesTr/labelsTr (or Ts): the part of a conversion that runs in a worker process.

A finished case leaves a record beside its files. Where a conversion was stopped, the next one takes those cases over
whose record still holds: same program, same rules, same source bytes, same files written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import medmoe_cli
from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError, GeometryError, MedMoEError, ResourceError
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.data.converters.source import LoadedCase, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.data.stored import read_stored
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.write import write_image, write_labels

RECORDS = ".finished"
"""Folder of the records, inside the unfinished dataset."""

_TABLE_VALUES = 1 << 16
"""Label values below this are mapped by one table."""


class CaseOutcome(Section):
    """What became of one case.

    Attributes:
        id: case id.
        patient: as the source says.
        split: 'Tr' or 'Ts'.
        failure: one line, '' when the case was written.
        misplaced: it failed because grids do not agree.
        notes: what was settled on the way.
        seen: voxels by source value, background included; empty without a label.
        voxels: voxels by dataset value.
        flat: the case is a single slice.
        inputs: sha256 of the files it was read from.
        outputs: sha256 of the files it was written to, by path inside the dataset.
        cached: an earlier conversion had finished it.
    """

    id: str
    patient: str
    split: Literal["Tr", "Ts"]
    failure: str = ""
    misplaced: bool = False
    notes: tuple[str, ...] = ()
    seen: dict[int, int] = Field(default_factory=dict)
    voxels: dict[int, int] = Field(default_factory=dict)
    flat: bool = False
    inputs: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)
    cached: bool = False


class CaseRecord(Section):
    """A finished case of an unfinished dataset.

    Attributes:
        key: of the rules it was written by.
        outcome: what became of it.
    """

    key: str
    outcome: CaseOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """How paths of a source are written in reports and records: those of an unpacked archive by the archive's name."""

    folder: str = ""
    name: str = ""

    def __call__(self, text: str) -> str:
        """The text with the temporary folder's name replaced."""
        return text.replace(self.folder, self.name) if self.folder else text


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseWriter:
    """Writes the cases of one survey below `root`; picklable, called with a case.

    Attributes:
        root: the unfinished dataset.
        channels, labels, value_map, mended, file_ending: as in the survey.
        spelling: of the source's paths.
    """

    root: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    value_map: dict[int, int]
    mended: dict[int, int]
    file_ending: str
    spelling: Spelling = field(default_factory=Spelling)

    @classmethod
    def of(cls, survey: Survey, root: Path, spelling: Spelling) -> CaseWriter:
        """The writer of a survey's cases."""
        return cls(
            root=root,
            channels=survey.channels,
            labels=survey.labels,
            value_map=survey.value_map,
            mended=survey.mended,
            file_ending=survey.file_ending,
            spelling=spelling,
        )

    def __call__(self, case: SourceCase) -> CaseOutcome:
        """Read, map and write one case; what is wrong with it becomes its failure.

        Raises:
            ResourceError: no disk or memory; the conversion ends.
        """
        try:
            return self._finished(case) or self._write(case)
        except ResourceError:
            raise
        except MedMoEError as error:
            return CaseOutcome(
                id=case.id,
                patient=case.patient,
                split=case.split,
                failure=self.spelling(error.line()),
                misplaced=isinstance(error, GeometryError),
            )

    def _finished(self, case: SourceCase) -> CaseOutcome | None:
        """What an earlier conversion wrote of this case, if it is what this one would write."""
        record = read_stored(self._record(case), CaseRecord)
        if record is None or record.key != self._key(case):
            return None
        outcome = record.outcome
        whole = all(_sha256_or_none(self.root / name) == digest for name, digest in outcome.outputs.items())
        if not whole or outcome.inputs != self._inputs(case):
            return None
        return outcome.model_copy(update={"cached": True})

    def _write(self, case: SourceCase) -> CaseOutcome:
        loaded = case.load()
        self._require_channels(case, loaded)
        seen = {} if loaded.label is None else _counted(loaded.label)
        mapped = None if loaded.label is None else self._map(case, loaded.label, seen)
        first = loaded.images[0]
        written = []
        for channel, image in enumerate(self._files(loaded)):
            path = self.root / f"images{case.split}" / f"{case.id}_{channel:04d}{self.file_ending}"
            written.append(write_image(path, image))
        voxels: dict[int, int] = {}
        if mapped is not None:
            path = self.root / f"labels{case.split}" / f"{case.id}{self.file_ending}"
            written.append(write_labels(path, mapped, like=first, label_names=self.labels))
            for value, count in seen.items():
                target = self._targets()[value]
                voxels[target] = voxels.get(target, 0) + count
        outcome = CaseOutcome(
            id=case.id,
            patient=case.patient,
            split=case.split,
            notes=tuple(self.spelling(note) for note in loaded.notes),
            seen=seen,
            voxels=voxels,
            flat=first.is_2d,
            inputs=self._inputs(case),
            outputs={path.relative_to(self.root).as_posix(): file_sha256(path) for path in written},
        )
        jsonio.write(self._record(case), CaseRecord(key=self._key(case), outcome=outcome))
        return outcome

    def _record(self, case: SourceCase) -> Path:
        return self.root / RECORDS / f"{case.split}-{case.id}.json"

    def _key(self, case: SourceCase) -> str:
        rules = [self.channels, self.labels, self.value_map, self.mended, self.file_ending]
        loader = self.spelling(_loader_text(case.load))
        return value_sha256([medmoe_cli.__version__, rules, case.id, case.patient, case.split, loader])

    def _inputs(self, case: SourceCase) -> dict[str, str]:
        return {self.spelling(str(path)): file_sha256(path) for file in case.files for path in _files_of(file)}

    def _targets(self) -> dict[int, int]:
        """Source value to dataset value, the known slips included."""
        table = {0: 0, **self.value_map}
        return {**table, **{slip: table[meant] for slip, meant in self.mended.items()}}

    def _require_channels(self, case: SourceCase, loaded: LoadedCase) -> None:
        found = sum(image.num_channels for image in loaded.images)
        if found != len(self.channels):
            raise DataError(
                f"{found} channels, {len(self.channels)} are declared ({', '.join(self.channels)})",
                where=case.files[0],
                fix="correct --channels or dataset.json, or leave the case out",
            )

    def _files(self, loaded: LoadedCase) -> list[Image]:
        """One image per file: colours of a picture together, all else channel by channel."""
        if self.file_ending == ".png" and len(loaded.images) == 1 and loaded.images[0].num_channels == 3:
            return list(loaded.images)
        return [
            replace(image, data=image.data[channel : channel + 1])
            for image in loaded.images
            for channel in range(image.num_channels)
        ]

    def _map(self, case: SourceCase, label: NDArray[Any], seen: Mapping[int, int]) -> NDArray[np.uint16]:
        """Source values to dataset values."""
        targets = self._targets()
        unknown = [f"{value} ({count} voxels)" for value, count in seen.items() if value not in targets]
        if unknown:
            raise DataError(
                "label values that are not declared",
                where=case.files[-1],
                why=f"{some(unknown, 8)}; declared are {some(map(str, sorted(self.value_map)), 20)}",
                fix="correct the label file, or the labels of the source",
            )
        mapped = np.empty(label.shape, np.uint16)
        if label.dtype.kind in "ui" and max(seen) < _TABLE_VALUES:
            table = np.zeros(max(seen) + 1, np.uint16)
            for value in seen:
                table[value] = targets[value]
            np.take(table, label, out=mapped)
            return mapped
        values = np.array(list(seen))
        wanted = np.array([targets[value] for value in seen], np.uint16)
        for index in range(label.shape[2]):  # slice by slice: positions take eight bytes a voxel
            mapped[..., index] = wanted[np.searchsorted(values, label[..., index])]
        return mapped


def _counted(label: NDArray[Any]) -> dict[int, int]:
    """Voxels by value, in the order of the values."""
    if label.dtype.kind in "ui" and label.size and label.min() >= 0 and label.max() < _TABLE_VALUES:
        total = np.zeros(int(label.max()) + 1, np.int64)
        for index in range(label.shape[2]):  # slice by slice: counting takes eight bytes a voxel
            total += np.bincount(label[..., index].ravel(), minlength=len(total))
        return {int(value): int(total[value]) for value in np.flatnonzero(total)}
    values, counts = np.unique(label, return_counts=True)
    return {int(value): int(count) for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def _loader_text(load: Callable[[], LoadedCase]) -> str:
    """What a loader reads and how: its function by name, its arguments by value."""
    if not isinstance(load, partial):
        return repr(load)
    name = f"{getattr(load.func, '__module__', '')}.{getattr(load.func, '__qualname__', repr(load.func))}"
    return f"{name} {load.args!r} {sorted(load.keywords.items())!r}"


def _sha256_or_none(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None


def _files_of(path: Path) -> list[Path]:
    return list(files_in(path)) if path.is_dir() else [path]
