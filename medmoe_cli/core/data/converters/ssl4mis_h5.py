"""SSL4MIS h5 files: ACDC and others as `image` and `label` arrays without any spacing.

Volumes patient001_frame01.h5 are [slice, H, W]; slice files patient003_frame01_slice_5.h5 are [H, W]. Frames are
renamed: frame01 is end-diastole, frame02 end-systole whatever its number in the original release. Lists beside them
(train.list or train_slices.list, val.list, test.list) name the volumes of each part, one a line.
Reference: HiLab-git/SSL4MIS, data/ACDC.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.release import official_fold
from medmoe_cli.core.data.converters.source import (
    ConvertOptions,
    Fold,
    LoadedCase,
    Skipped,
    SourceCase,
    Survey,
    renumber,
)
from medmoe_cli.core.data.filenames import files_below, some
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image

NAME = "ssl4mis-h5"
_ACDC = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}
_ACDC_CASE = re.compile(r"patient\d{3}_frame\d{2}")
_SLICE = re.compile(r"(.+)_slice_?(\d+)")
_PATIENT = r"(patient\d+).*"
_LISTS = {"train.list": "train", "train_slices.list": "train", "val.list": "val", "test.list": "test"}


def looks_like(source: Path) -> bool:
    """Any .h5 file."""
    return any(path.suffix == ".h5" for path in files_below(source))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand a folder of h5 files; slice files are stacked, and left out where their volume is there too.

    Raises:
        ConfigError: no --spacing, or classes that are not known.
    """
    if options.spacing_mm is None:
        raise ConfigError(
            "these files carry no voxel size",
            where=source,
            why="h5 files of SSL4MIS are bare arrays",
            fix="add --spacing X Y Z in mm (ACDC is about 1.5 1.5 10)",
        )
    volumes: dict[str, Path] = {}
    slices: dict[str, dict[int, Path]] = defaultdict(dict)
    skipped: list[Skipped] = []
    for path in files_below(source):
        if path.suffix != ".h5":
            continue
        match = _SLICE.fullmatch(path.stem)
        where = slices[match[1]] if match else volumes
        key: Any = int(match[2]) if match else path.stem
        if key in where:
            skipped.append(Skipped(what=str(path.relative_to(source)), why="a second file of that name", is_case=False))
        else:
            where[key] = path
    for case in sorted(set(slices) & set(volumes)):
        skipped.append(
            Skipped(what=f"{len(slices[case])} slice files of {case}", why="its volume is there too", is_case=False)
        )
    names = sorted(set(volumes) | set(slices))
    acdc = bool(names) and all(_ACDC_CASE.fullmatch(name) for name in names)
    if options.label_names:
        classes = {name: value for value, name in enumerate(options.label_names, start=1)}
    elif acdc:
        classes = _ACDC
    else:
        raise ConfigError(
            "unknown classes",
            where=source,
            why="the files are not named patientNNN_frameNN as those of ACDC are",
            fix="add --label-names with the classes in the order of their values",
        )
    labels, value_map = renumber(classes)
    rule = patient_rule(options.patient_regex or _PATIENT)
    lists = _lists(source)
    cases = tuple(
        SourceCase(
            id=name,
            patient=patient_of(name, rule),
            split="Ts" if name in lists.get("test", ()) else "Tr",
            files=(volumes[name],) if name in volumes else tuple(slices[name].values()),
            load=partial(load_volume, volumes[name], options.spacing_mm)
            if name in volumes
            else partial(load_slices, name, dict(sorted(slices[name].items())), options.spacing_mm),
        )
        for name in names
    )
    frames = "frame01 is end-diastole, frame02 end-systole (renamed by SSL4MIS, not the original frame number)"
    folds, split_notes = _official(lists, cases)
    sides = "x".join(f"{side:g}" for side in options.spacing_mm)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "MR",),
        labels=labels,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=cases,
        skipped=tuple(skipped),
        modality=options.modality or "MR",
        information={"description": frames} if acdc else {},
        folds=folds,
        notes=(
            f"the voxel size {sides} mm is --spacing's, the files have none",
            *((frames,) if acdc else ()),
            *split_notes,
        ),
    )


def _lists(source: Path) -> dict[str, set[str]]:
    """Part to its volumes, of the lists that are there; a list of slices names their volumes."""
    found: dict[str, set[str]] = {}
    for path in files_below(source):
        if path.name in _LISTS:
            names = {Path(line.strip()).stem for line in path.read_text(errors="replace").splitlines() if line.strip()}
            volumes = {match[1] if (match := _SLICE.fullmatch(name)) else name for name in names}
            found.setdefault(_LISTS[path.name], set()).update(volumes)
    return found


def _official(lists: Mapping[str, set[str]], cases: Sequence[SourceCase]) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """The lists' fold, and what to say of them."""
    if not lists:
        return (), ("no val.list or test.list beside the files: the split of SSL4MIS is not known here",)
    listed = set().union(*lists.values())
    notes = []
    if twice := sorted(lists.get("val", set()) & lists.get("test", set())):
        notes.append(f"{len(twice)} volumes are in val.list and in test.list, they test: {some(twice)}")
    if unlisted := sorted(case.id for case in cases if case.id not in listed):
        notes.append(f"{len(unlisted)} volumes are in no list, they train: {some(unlisted)}")
    if absent := sorted(listed - {case.id for case in cases}):
        notes.append(f"{len(absent)} volumes of the lists are not here: {some(absent)}")
    held_out = lists.get("val", set()) - lists.get("test", set())
    training = {case.id for case in cases if case.split == "Tr"} - held_out
    folds, said = official_fold("that of the lists", training, held_out, cases) if held_out else ((), ())
    return folds, (*notes, *said)


def load_volume(path: Path, spacing_mm: tuple[float, float, float]) -> LoadedCase:
    """Read [slice, H, W] arrays; H becomes y, W x.

    Raises:
        DataError: the file is damaged or has other arrays.
    """
    image, label = _arrays(path)
    return _loaded(
        path, image[None] if image.ndim == 2 else image, label[None] if label.ndim == 2 else label, spacing_mm
    )


def load_slices(name: str, files: Mapping[int, Path], spacing_mm: tuple[float, float, float]) -> LoadedCase:
    """Stack slice files in the order of their numbers.

    Raises:
        DataError: a number is missing, or sizes differ.
    """
    numbers = list(files)
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    first = files[numbers[0]]
    if gaps:
        raise DataError(
            "slices are missing", where=first.parent, why=f"{name}: {gaps}", fix="copy them, or remove the others"
        )
    pairs = [_arrays(path) for path in files.values()]
    shapes = {array.shape for pair in pairs for array in pair}
    if len(shapes) > 1 or len(next(iter(shapes))) != 2:
        raise DataError(
            "slices of different sizes", where=first.parent, why=f"{name}: {sorted(shapes)}", fix="remove them"
        )
    image, label = (np.stack([pair[part] for pair in pairs]) for part in (0, 1))
    return _loaded(first, image, label, spacing_mm)


def _loaded(
    path: Path, image_ZYX: NDArray[Any], label_ZYX: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> LoadedCase:
    if image_ZYX.ndim != 3 or image_ZYX.shape != label_ZYX.shape:
        raise DataError(
            "arrays that do not fit",
            where=path,
            why=f"image {image_ZYX.shape}, label {label_ZYX.shape}",
            fix="leave the case out",
        )
    rounded = np.rint(label_ZYX)
    if not np.isfinite(image_ZYX).all() or not (np.abs(label_ZYX - rounded) < 1e-3).all():
        raise DataError(
            "values that are no image's or label's", where=path, why="NaN, Inf or fractions", fix="remove it"
        )
    image_XYZ = np.ascontiguousarray(image_ZYX.transpose(2, 1, 0)).astype(np.float32)
    label_XYZ = np.ascontiguousarray(rounded.transpose(2, 1, 0)).astype(np.int32)
    shape = (image_XYZ.shape[0], image_XYZ.shape[1], image_XYZ.shape[2])
    image = Image(
        data=image_XYZ[None],
        geometry=Geometry.plain(shape, spacing_mm),
        header=Header(format="h5", path=path),
    )
    return LoadedCase(images=(image,), label=label_XYZ)


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("image", "label") if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise DataError(f"no array '{missing[0]}'", where=path, why=f"it has {sorted(file)}", fix="remove it")
            return np.asarray(file["image"]), np.asarray(file["label"])
    except (OSError, RuntimeError, TypeError) as error:
        raise DataError("damaged h5 file", where=path, why=str(error), fix="copy it again") from error


FORMAT = Format(
    name=NAME,
    description="SSL4MIS h5 files (ACDC and others); they carry no voxel size: give --spacing",
    modality="MR",
    options=(*COMMON_OPTIONS, "spacing_mm", "label_names"),
    looks_like=looks_like,
    survey=survey,
    classes="ACDC: right_ventricle, myocardium, left_ventricle; else --label-names",
    licence="CC BY-NC-SA 4.0 (ACDC)",
    obtain="https://github.com/HiLab-git/SSL4MIS, data/ACDC",
    signs="h5 files",
)
