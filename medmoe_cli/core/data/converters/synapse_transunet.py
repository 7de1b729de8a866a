"""Synapse multi-organ CT as TransUNet and SAMed share it: npz slices for training, h5 volumes for testing.

Layout: train_npz/case0005_slice000.npz (image and label, rows and columns) and test_vol_h5/case0001.npy.h5 (image and
label, slices first), no voxel size, Hounsfield units -125..275 scaled to 0..1. Two orders of the eight organs share
these file names, so the order must be named. Slices of a case are stacked again.
References: Beckschen/TransUNet, datasets/README.md and lists/lists_Synapse; hitachinsk/SAMed, preprocess.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, DataError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters import btcv
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.organ_check import organ_sizes, require_largest
from medmoe_cli.core.data.converters.release import glimpse, numbers, walk
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.data.converters.synapse_arrays import Files, read_arrays, read_label
from medmoe_cli.core.data.converters.synapse_directions import Organs, directions
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.image import Header, Image

NAME = "synapse-transunet"
EIGHT_BITS = "the image has the 256 levels of an 8-bit picture"
OTHER_RANGE = "image values beyond 0..1: another preprocessing than TransUNet's"
_TEST = numbers("1-4,8,22,25,29,32,35,36,38")
_TRAINING = (
    {5: 117, 6: 131, 7: 163, 9: 149, 10: 148, 21: 143, 23: 96, 24: 124, 26: 131}
    | {27: 88, 28: 89, 30: 153, 31: 93, 33: 104, 34: 98, 37: 99, 39: 90, 40: 195}
)  # fmt: skip
"""Training cases and how many slices each has."""
_SLICE = re.compile(r"case(\d{4})_slice(\d{3,4})\.npz")
_VOLUME = re.compile(r"case(\d{4})\.npy\.h5")
_EITHER = re.compile(rf"(?:{_SLICE.pattern})|(?:{_VOLUME.pattern})")
_LICENCE = "unknown: the terms of Synapse/BTCV; the preprocessed copy is given on request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """One order of label values, and how its authors' arrays lie.

    Attributes:
        classes: name to value.
        x_axis: 1 where rows run left-right, 2 where columns do.
    """

    classes: Mapping[str, int]
    x_axis: int

    @property
    def organs(self) -> Organs:
        """The values that tell directions."""
        kidneys = (self.classes["kidney_left"], self.classes["kidney_right"])
        return Organs(liver=self.classes["liver"], spleen=self.classes["spleen"], kidneys=kidneys)


_TRANSUNET = ("aorta", "gallbladder", "kidney_left", "kidney_right", "liver", "pancreas", "spleen", "stomach")
_SAMED = ("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "aorta", "pancreas")
SCHEMES: dict[str, Scheme] = {
    "transunet": Scheme(classes={name: value for value, name in enumerate(_TRANSUNET, start=1)}, x_axis=1),
    "samed": Scheme(classes={name: value for value, name in enumerate(_SAMED, start=1)}, x_axis=2),
    "btcv13": Scheme(classes=btcv.CLASSES, x_axis=1),
}


def looks_like(source: Path) -> bool:
    """case0005_slice000.npz or case0001.npy.h5."""
    return glimpse(source, _EITHER)


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the preprocessed release.

    Raises:
        ConfigError: --label-scheme is missing.
        DataError: the labels contradict it.
    """
    scheme = _scheme(options, source)
    skipped: list[Skipped] = []
    found = _files(source, skipped)
    _require_order((options.label_scheme or "").lower(), scheme, found, source)
    spacing_mm = options.spacing_mm or (1.0, 1.0, 1.0)
    rule = patient_rule(options.patient_regex)
    cases = tuple(
        SourceCase(
            id=f"case{number:04d}",
            patient=patient_of(f"case{number:04d}", rule),
            split="Ts" if number in _TEST else "Tr",
            files=files.paths,
            load=partial(load_case, files, scheme, spacing_mm),
        )
        for number, files in sorted(found.items())
    )
    values, value_map = renumber(dict(scheme.classes))
    sides = "x".join(f"{side:g}" for side in spacing_mm)
    return Survey(
        format=NAME,
        channels=options.channels or (options.modality or "CT",),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=cases,
        skipped=tuple(skipped),
        modality=options.modality or "CT",
        information={
            "description": f"values 0..1 for Hounsfield units -125..275, label scheme {options.label_scheme}",
            "reference": "TransUNet, github.com/Beckschen/TransUNet",
            "licence": _LICENCE,
        },
        notes=(
            f"the voxel size {sides} mm is --spacing's, for all cases alike; the files have none"
            if options.spacing_mm
            else "voxel size 1x1x1 mm: the files have none and no --spacing was given, so distances are in voxels",
            "image values are 0..1 for Hounsfield units -125..275, as the files have them",
            *_incomplete(found),
        ),
    )


def load_case(files: Files, scheme: Scheme, spacing_mm: tuple[float, float, float]) -> LoadedCase:
    """Read one case and lay it in space.

    Raises:
        DataError: a file is damaged, a slice is missing, or sizes differ.
    """
    arrays = read_arrays(files)
    lies = directions(arrays.label_DAB, scheme.organs, documented_x_axis=scheme.x_axis)
    image_XYZ, label_XYZ = lies.volume(arrays.image_DAB), lies.volume(arrays.label_DAB)
    shape = (image_XYZ.shape[0], image_XYZ.shape[1], image_XYZ.shape[2])
    header = Header(format="h5" if files.volume is not None else "npz", path=files.paths[0])
    image = Image(data=image_XYZ[None], geometry=lies.geometry(shape, spacing_mm), header=header)
    notes = [*lies.notes, f"axes written {lies.axes}"]
    if image_XYZ.min() < -1e-3 or image_XYZ.max() > 1 + 1e-3:
        notes.append(OTHER_RANGE)
    elif np.abs(image_XYZ * 255 - np.rint(image_XYZ * 255)).max() < 1e-3:
        notes.append(EIGHT_BITS)
    return LoadedCase(images=(image,), label=label_XYZ, notes=tuple(notes))


def _scheme(options: ConvertOptions, source: Path) -> Scheme:
    if options.label_scheme is None:
        raise ConfigError(
            "no --label-scheme",
            where=source,
            why="two orders of the organs share these file names: TransUNet's (1 is the aorta), SAMed's (1 the spleen)",
            fix="add --label-scheme transunet, samed, or btcv13 for files that keep 13 organs",
        )
    return SCHEMES[options.label_scheme.lower()]


def _files(source: Path, skipped: list[Skipped]) -> dict[int, Files]:
    """Files by case; a volume is preferred to slices of the same case."""
    volumes: dict[int, Path] = {}
    slices: dict[int, dict[int, Path]] = defaultdict(dict)
    problems: list[DataError] = []
    for path in walk(source):
        match = _EITHER.fullmatch(path.name)
        if match is None:
            continue
        number, slice_number = int(match[1] or match[3]), match[2]
        if number not in _TEST and number not in _TRAINING:
            skipped.append(Skipped(what=path.name, why="no case of the release's 18 and 12"))
        elif slice_number is None:
            first = volumes.setdefault(number, path)
            problems += _twice(first, path)
        else:
            first = slices[number].setdefault(int(slice_number), path)
            problems += _twice(first, path)
    raise_all(problems)
    both = sorted(set(volumes) & set(slices))
    if both:
        cases = some((f"case{number:04d}" for number in both), 6)
        skipped.append(Skipped(what=f"slices of {cases}", why="their volumes are there too", is_case=False))
    return {
        number: Files(volume=volumes[number])
        if number in volumes
        else Files(slices=dict(sorted(slices[number].items())))
        for number in sorted(set(volumes) | set(slices))
    }


def _twice(first: Path, path: Path) -> list[DataError]:
    if first == path:
        return []
    return [DataError("two files of one name", where=path, why=f"the other is {first}", fix="remove one of them")]


def _require_order(name: str, scheme: Scheme, found: Mapping[int, Files], source: Path) -> None:
    """Refuse a scheme that a few labels contradict.

    Raises:
        DataError: the liver is not the largest organ, or the right kidney is smaller than the gallbladder everywhere.
    """
    sizes = organ_sizes(list(found.values()), read_label)
    others = " or ".join(other for other in SCHEMES if other != name)
    fix = f"name the scheme that fits: --label-scheme {others}"
    require_largest(sizes, scheme.classes["liver"], "the liver", where=source, fix=fix)
    kidney, gallbladder = scheme.classes["kidney_right"], scheme.classes["gallbladder"]
    telling = [one for one in sizes if kidney in one and gallbladder in one]
    if len(telling) > 1 and all(one[gallbladder] > one[kidney] for one in telling):
        why = f"in {len(telling)} cases {gallbladder}, the gallbladder of {name}, is larger than {kidney}, a kidney"
        raise DataError("labels of another order", where=source, why=why, fix=fix)


def _incomplete(found: Mapping[int, Files]) -> list[str]:
    """Cases that have other numbers of slices than TransUNet's list."""
    odd = [
        f"case{number:04d} has {len(files.slices)} of {_TRAINING[number]}"
        for number, files in found.items()
        if files.slices and number in _TRAINING and len(files.slices) != _TRAINING[number]
    ]
    return [f"slices differ from TransUNet's list: {some(odd, 6)}"] if odd else []


FORMAT = Format(
    name=NAME,
    description="Synapse CT as npz slices and h5 volumes (TransUNet, SAMed); --label-scheme names the order of values",
    modality="CT, scaled to 0..1",
    options=(*COMMON_OPTIONS, "spacing_mm", "label_scheme"),
    looks_like=looks_like,
    survey=survey,
    classes="8 abdominal organs, or 13",
    licence=_LICENCE,
    obtain="links in datasets/README.md of github.com/Beckschen/TransUNet; raw: synapse.org, project syn3193805",
    particular=2,
    signs="case0005_slice000.npz or case0001.npy.h5",
    label_schemes=tuple(SCHEMES),
)
