"""One source case into imagesTr/labelsTr (or Ts): the part of a conversion that runs in a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, MedMoEError, ResourceError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.data.converters.source import LoadedCase, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.write import write_image, write_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOutcome:
    """What became of one case.

    Attributes:
        id: case id.
        patient: as the source says.
        split: 'Tr' or 'Ts'.
        failure: one line, '' when the case was written.
        notes: what was settled on the way.
        voxels: labelled voxels by dataset value, background included; empty without a label.
        flat: the case is a single slice.
        inputs: sha256 of the files it was read from.
    """

    id: str
    patient: str
    split: Literal["Tr", "Ts"]
    failure: str = ""
    notes: tuple[str, ...] = ()
    voxels: Mapping[int, int]
    flat: bool = False
    inputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseWriter:
    """Writes the cases of one survey below `root`; picklable, called with a case."""

    root: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    value_map: dict[int, int]
    file_ending: str

    @classmethod
    def of(cls, survey: Survey, root: Path) -> CaseWriter:
        """The writer of a survey's cases."""
        return cls(
            root=root,
            channels=survey.channels,
            labels=survey.labels,
            value_map=survey.value_map,
            file_ending=survey.file_ending,
        )

    def __call__(self, case: SourceCase) -> CaseOutcome:
        """Read, map and write one case; what is wrong with it becomes its failure.

        Raises:
            ResourceError: no disk or memory; the conversion ends.
        """
        try:
            return self._write(case)
        except ResourceError:
            raise
        except MedMoEError as error:
            return CaseOutcome(
                id=case.id, patient=case.patient, split=case.split, failure=error.line(), voxels={}, inputs={}
            )

    def _write(self, case: SourceCase) -> CaseOutcome:
        loaded = case.load()
        self._require_channels(case, loaded)
        mapped = None if loaded.label is None else self._map(case, loaded.label)
        first = loaded.images[0]
        folder = self.root / f"images{case.split}"
        for channel, image in enumerate(self._files(loaded)):
            write_image(folder / f"{case.id}_{channel:04d}{self.file_ending}", image)
        voxels: dict[int, int] = {}
        if mapped is not None:
            path = self.root / f"labels{case.split}" / f"{case.id}{self.file_ending}"
            write_labels(path, mapped, like=first, label_names=self.labels)
            values, counts = np.unique(mapped, return_counts=True)
            voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return CaseOutcome(
            id=case.id,
            patient=case.patient,
            split=case.split,
            notes=loaded.notes,
            voxels=voxels,
            flat=first.is_2d,
            inputs={str(path): file_sha256(path) for file in case.files for path in _files_of(file)},
        )

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

    def _map(self, case: SourceCase, label: NDArray[Any]) -> NDArray[np.uint16]:
        """Source values to dataset values."""
        values = np.unique(label)
        table = {0: 0, **self.value_map}
        unknown = [int(value) for value in values.tolist() if int(value) not in table]
        if unknown:
            raise DataError(
                "label values that are not declared",
                where=case.files[-1],
                why=f"{some(map(str, unknown), 8)}; declared are {some(map(str, sorted(self.value_map)), 20)}",
                fix="correct the label file, or the labels of the source",
            )
        targets = np.array([table[int(value)] for value in values.tolist()], np.uint16)
        mapped = np.empty(label.shape, np.uint16)
        for index in range(label.shape[2]):  # slice by slice: positions take eight bytes a voxel
            mapped[..., index] = targets[np.searchsorted(values, label[..., index])]
        return mapped


def _files_of(path: Path) -> list[Path]:
    return list(files_in(path)) if path.is_dir() else [path]
