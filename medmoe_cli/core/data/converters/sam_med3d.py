"""SAM-Med3D: one folder per class, in it one per source dataset, with binary masks that bear their images' names.

Layout: [train|validation/]CLASS/MODALITY_DATASET/{imagesTr,labelsTr}/CASE.nii.gz, and Val or Ts in place of Tr. The
image of a case lies in the folder of every class that it was annotated for; the masks are merged by case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, DataError, GeometryError, MedMoEError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.files import place_label
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.overlaps import Stack
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_in, some
from medmoe_cli.core.data.grids import Grid, compare_grids
from medmoe_cli.core.imaging.formats import NIFTI, ending_of, is_junk, stem_of
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image, read_labels

NAME = "sam-med3d"
_SPLITS: Mapping[str, Literal["Tr", "Ts"]] = {"Tr": "Tr", "Val": "Ts", "Ts": "Ts"}
_HALVES = ("", "train", "validation", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFiles:
    """A case as the folder of one class has it.

    Attributes:
        name: of the class.
        value: in the dataset to write.
        image: None where the folder holds the mask alone.
        label: None where it holds the image alone.
    """

    name: str
    value: int
    image: Path | None
    label: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The images and masks of one class in one source dataset and split."""

    name: str
    dataset: str
    split: str
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class _Key:
    """What makes two files one case: the source dataset, the split and the name."""

    dataset: str
    split: str
    case: str


def looks_like(source: Path) -> bool:
    """CLASS/DATASET folders without a dataset.json, where an image and a mask share a name.

    One such folder alone may be any release in a folder of its own: there the mask tells, which has a single class.
    """
    places = list(_places(source))
    for place in places:
        masks = _by_name(place, "labels")
        shared = sorted(_by_name(place, "images").keys() & masks.keys())
        if shared and not (place.folder / "dataset.json").exists():
            return len({one.folder for one in places}) > 1 or _has_one_class(masks[shared[0]])
    return False


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand a collection in SAM-Med3D's layout.

    Raises:
        ConfigError: a class of --subset is not there.
        DataError: a folder holds two files of one case.
    """
    places = list(_places(source))
    known = sorted({place.name for place in places})
    for name in options.subset:
        if name not in known:
            raise ConfigError(f"no class '{name}'", where=source, why=did_you_mean(name, known), fix="correct --subset")
    chosen = [name for name in known if not options.subset or name in options.subset]
    labels = {name: value for value, name in enumerate(chosen, start=1)}
    places = [place for place in places if place.name in labels]
    skipped: list[Skipped] = []
    cases = _cases(_collect(places, labels), options, skipped)
    modality, channel, notes = _modality(places, options)
    return Survey(
        format=NAME,
        channels=options.channels or (channel,),
        labels=labels,
        value_map={value: value for value in labels.values()},
        file_ending=".nii.gz",
        cases=cases,
        skipped=tuple(skipped),
        modality=modality,
        notes=(*notes, *_unannotated(places, chosen)),
    )


def load_case(files: Sequence[ClassFiles], *, overlap: Literal["higher", "lower"]) -> LoadedCase:
    """Read a case's image and lay its masks over each other.

    Raises:
        MedMoEError: a file is damaged, the folders hold different images, or a mask is not binary or lies elsewhere.
    """
    images = [entry.image for entry in files if entry.image is not None]
    image = read_image(images[0])
    for other in images[1:]:
        _require_same(image, images[0], other)
    notes: list[str] = []
    masks = [(entry.value, entry.label) for entry in files if entry.label is not None]
    if not masks:
        return LoadedCase(images=(image,), label=None)
    stack = Stack(image.geometry.shape, overlap=overlap)
    for value, path in masks:
        mask = place_label(image, read_labels(path), notes)
        _require_binary(mask, path)
        stack.add(value, mask)
    return LoadedCase(images=(image,), label=stack.label, notes=(*notes, *stack.notes()))


def _has_one_class(path: Path) -> bool:
    """A mask that cannot be read is left for the conversion to report."""
    try:
        return bool(read_labels(path).data.max() <= 1)
    except MedMoEError:
        return True


def _places(source: Path) -> Iterator[_Place]:
    for half in _HALVES:
        for split in _SPLITS:
            for labels in sorted((source / half).glob(f"*/*/labels{split}")):
                folder = labels.parent
                if labels.is_dir() and not is_junk(folder) and not is_junk(folder.parent):
                    yield _Place(name=folder.parent.name, dataset=folder.name, split=split, folder=folder)


def _by_name(place: _Place, kind: Literal["images", "labels"]) -> dict[str, Path]:
    """Volumes by the name of their case.

    Raises:
        DataError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files_in(place.folder / f"{kind}{place.split}"):
        if ending_of(path) not in NIFTI:
            continue
        name = stem_of(path)
        if name in found:
            why = f"{found[name].name} and {path.name}"
            raise DataError(f"two files of case '{name}'", where=path.parent, why=why, fix="remove one of them")
        found[name] = path
    return found


def _collect(places: Sequence[_Place], labels: Mapping[str, int]) -> dict[_Key, list[ClassFiles]]:
    found: dict[_Key, list[ClassFiles]] = {}
    for place in sorted(places, key=lambda one: (labels[one.name], one.dataset, one.split)):
        images, masks = _by_name(place, "images"), _by_name(place, "labels")
        for case in sorted(images.keys() | masks.keys()):
            key = _Key(dataset=place.dataset, split=place.split, case=case)
            entry = ClassFiles(name=place.name, value=labels[place.name], image=images.get(case), label=masks.get(case))
            found.setdefault(key, []).append(entry)
    return found


def _cases(
    found: Mapping[_Key, list[ClassFiles]], options: ConvertOptions, skipped: list[Skipped]
) -> tuple[SourceCase, ...]:
    datasets_of: dict[str, set[str]] = {}
    for key in found:
        datasets_of.setdefault(key.case, set()).add(key.dataset)
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    for key, files in sorted(found.items()):
        split = _SPLITS[key.split]
        # Two sources that number their cases alike are kept apart by the source's name.
        case = key.case if len(datasets_of[key.case]) == 1 else f"{key.dataset}_{key.case}"
        if all(entry.image is None for entry in files):
            skipped.append(Skipped(what=f"{key.dataset}/{key.case}", why="a mask without an image", is_case=False))
            continue
        if split == "Tr" and all(entry.label is None for entry in files):
            skipped.append(Skipped(what=f"{key.dataset}/{key.case}", why="a training image without a mask"))
            continue
        for entry in files:
            if entry.label is None and any(other.label is not None for other in files):
                what = f"{key.dataset}/{key.case}, class {entry.name}"
                skipped.append(
                    Skipped(what=what, why="no mask beside its image: the class counts as absent", is_case=False)
                )
        paths = tuple(path for entry in files for path in (entry.image, entry.label) if path is not None)
        load = partial(load_case, tuple(files), overlap=options.overlap or "higher")
        cases.append(SourceCase(id=case, patient=patient_of(case, rule), split=split, files=paths, load=load))
    return tuple(cases)


def _modality(places: Sequence[_Place], options: ConvertOptions) -> tuple[str, str, tuple[str, ...]]:
    """The dataset's modality, its channel's name, and what to say of them; `ct_WORD` is a CT."""
    prefixes = Counter(place.dataset.split("_")[0].upper() for place in places if "_" in place.dataset)
    found = sorted(prefixes)
    if options.modality is not None:
        return options.modality, options.modality, ()
    if len(found) == 1:
        return found[0], found[0], ()
    if "CT" in found:
        note = (
            f"{', '.join(found)} together: no Hounsfield window is planned, each image is scaled by its own "
            "percentiles; convert CT alone to keep the window"
        )
        return "", "image", (note,)
    return ", ".join(found), "image", ()


def _unannotated(places: Sequence[_Place], names: Sequence[str]) -> Iterator[str]:
    """What no reader can tell from the merged masks: a class that a source never annotated looks absent there."""
    for dataset in sorted({place.dataset for place in places}):
        has = {place.name for place in places if place.dataset == dataset}
        lacks = [name for name in names if name not in has]
        if lacks:
            yield (
                f"{dataset} has no folder for {some(lacks, 6)}: counted as absent there; "
                "--subset CLASS takes only the sources of that class"
            )


def _require_same(image: Image, path: Path, other: Path) -> None:
    if path.stat().st_size == other.stat().st_size and file_sha256(path) == file_sha256(other):
        return
    found = read_image(other)
    verdict = compare_grids(_grid(image), _grid(found))
    if verdict.kind == "different":
        raise GeometryError(
            "class folders with images of one name on different grids",
            where=other,
            why=f"{verdict}, compared with {path}",
            fix="convert the classes one by one with --subset, or rename the case in one of them",
        )
    if found.data.shape != image.data.shape or (found.data != image.data).any():
        raise DataError(
            "class folders with different images of one name",
            where=other,
            why=f"its voxels are not those of {path}",
            fix="convert the classes one by one with --subset, or rename the case in one of them",
        )


def _grid(image: Image) -> Grid:
    return Grid(geometry=image.geometry, header=image.header)


def _require_binary(mask: NDArray[np.integer], path: Path) -> None:
    values = [int(value) for value in np.unique(mask).tolist() if value]
    if len(values) > 1:
        raise DataError(
            "a mask of several values",
            where=path,
            why=f"{some(map(str, values), 8)}; each folder holds the binary masks of one class",
            fix="leave the case out, or write one mask per class",
        )


FORMAT = Format(
    name=NAME,
    description="SAM-Med3D / SA-Med3D-140K: a folder per class and source, binary masks, merged by case",
    modality="CT, MR",
    options=(*COMMON_OPTIONS, "overlap", "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="one per folder",
    licence="unknown for SA-Med3D-140K; each source dataset has its own",
    obtain="https://huggingface.co/datasets/blueyo0/SA-Med3D-140K, or lay your own scans out like it",
    particular=3,  # folders in folders of masks say more than the names of files, which stay those of their release
    signs="a folder per class, in it one per source dataset, where images and masks share their names",
)
