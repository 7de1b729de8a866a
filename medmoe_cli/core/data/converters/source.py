"""What a converter tells the writer about a source: its cases, classes and channels, before a voxel is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from medmoe_cli.core.imaging.image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertOptions:
    """The format options of `medmoe convert`; None and empty mean that an option was not given.

    Attributes:
        images: folder of images, relative to the source or absolute.
        labels: folder of labels.
        image_suffixes: what follows the case id in the names of images; several are the channels in order.
        label_suffix: what follows the case id in the names of labels.
        label_map: source value to dataset value; several source values may share one.
        label_names: class names in the order of their values.
        class_files: one mask file per class (CASE_CLASS.png, CASE_CLASS_000.png).
        threshold: masks are binary, foreground above this value.
        channels: channel names.
        modality: for instance CT; names the channel too when there is one.
        spacing_mm: x, y, z of files that carry none.
        patient_regex: the first group of a match on the case id is the patient.
        overlap: which class keeps a voxel that several claim, by class order.
        allow_unmatched: leave files without a partner out instead of refusing.
        subset: parts of a release to take: its modalities, parts or classes, as the format names them.
        label_scheme: which of a format's incompatible value orders the files have.
    """

    images: Path | None = None
    labels: Path | None = None
    image_suffixes: tuple[str, ...] = ()
    label_suffix: str | None = None
    label_map: dict[int, int] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    class_files: bool = False
    threshold: int | None = None
    channels: tuple[str, ...] = ()
    modality: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    patient_regex: str | None = None
    overlap: Literal["higher", "lower"] | None = None
    allow_unmatched: bool = False
    subset: tuple[str, ...] = ()
    label_scheme: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedCase:
    """One case in memory.

    Attributes:
        images: one per channel file; an image with several channels counts for as many.
        label: (X, Y, Z) source values on the first image's grid; None for test cases without one.
        notes: what was settled on the way ('label values rounded'), counted in the report.
    """

    images: tuple[Image, ...]
    label: NDArray[Any] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceCase:
    """One case of a source.

    Attributes:
        id: case id in the dataset.
        patient: splits never separate cases of one patient.
        split: of the folders imagesTr, imagesTs.
        files: what it is read from (files, or a DICOM folder).
        load: reads it; picklable; raises MedMoEError for what is wrong with the case.
    """

    id: str
    patient: str
    split: Literal["Tr", "Ts"]
    files: tuple[Path, ...]
    load: Callable[[], LoadedCase]


OFFICIAL = "the release's"
"""How the name of a fold begins that comes with the release; others are of those who published with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One published fold, by case id of training cases; `name` says whose it is."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    name: str = f"{OFFICIAL} own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file or case that is left out on purpose, and why; `is_case` where it would have been a case."""

    what: str
    why: str
    is_case: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """A source as a converter understands it.

    Attributes:
        format: the converter's name.
        channels: channel names in order.
        labels: class name to dataset value, consecutive from 1.
        value_map: source value to dataset value (0 for what becomes background); others are refused.
        file_ending: of the dataset to write ('.nii.gz' or '.png').
        cases: sorted by id.
        skipped: what is left out.
        modality: '' when unknown.
        information: informational keys for dataset.json (description, reference, licence, ...).
        class_prompts: text per class where the source has its own.
        notes: what was decided about the whole source.
        splits: the source's splits_final.json, copied when it fits.
        folds: the release's official folds, written as splits_final.json; () where it has none.
        threshold: masks are binary, foreground above this value of the files; None where values are codes.
        mended: source values that are known slips, and the value each stands for; mended, counted and said.
    """

    format: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    value_map: dict[int, int]
    file_ending: Literal[".nii.gz", ".png"]
    cases: tuple[SourceCase, ...]
    skipped: tuple[Skipped, ...] = ()
    modality: str = ""
    information: dict[str, str] = field(default_factory=dict)
    class_prompts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    splits: Path | None = None
    folds: tuple[Fold, ...] = ()
    threshold: int | None = None
    mended: dict[int, int] = field(default_factory=dict)


def renumber(values: dict[str, int]) -> tuple[dict[str, int], dict[int, int]]:
    """Consecutive values from 1 in the order of the source values.

    Returns:
        Class name to dataset value, and source value to dataset value.
    """
    ordered = sorted(values.items(), key=lambda item: item[1])
    labels = {name: number for number, (name, _) in enumerate(ordered, start=1)}
    return labels, {source: labels[name] for name, source in ordered}
