"""The source formats that `medmoe convert` reads: one entry each, and what a folder looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters import folder, imed361m, msd, nnunet, sam_med3d, ssl4mis_h5
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey


class Surveyor(Protocol):
    """A converter's function: understands a source, writes nothing."""

    def __call__(self, source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
        """Understand `source`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One source format.

    Attributes:
        name: as typed after --format.
        description: one line for lists.
        modality: what it usually holds.
        options: names of the ConvertOptions it understands.
        looks_like: cheap test of a folder.
        survey: the converter.
    """

    name: str
    description: str
    modality: str
    options: tuple[str, ...]
    looks_like: Callable[[Path], bool]
    survey: Surveyor


_WITH_JSON = ("msd", "nnunet", "imed361m")
_COMMON = ("patient_regex", "modality", "channels")

FORMATS: dict[str, Format] = {
    "msd": Format(
        name="msd",
        description="Medical Segmentation Decathlon (TaskXX_Name) and releases of its layout, such as AMOS",
        modality="CT, MR",
        options=_COMMON,
        looks_like=msd.looks_like,
        survey=msd.survey,
    ),
    "nnunet": Format(
        name="nnunet",
        description="nnU-Net raw folders: TaskXXX_Name (v1) and DatasetXXX_Name (v2)",
        modality="any",
        options=_COMMON,
        looks_like=nnunet.looks_like,
        survey=nnunet.survey,
    ),
    "imed361m": Format(
        name="imed361m",
        description="IMed-361M / IMIS-Bench: 2D pictures with one sparse mask per class",
        modality="any, as 8-bit pictures",
        options=(*_COMMON, "overlap"),
        looks_like=imed361m.looks_like,
        survey=imed361m.survey,
    ),
    "ssl4mis-h5": Format(
        name="ssl4mis-h5",
        description="SSL4MIS h5 files (ACDC and others); they carry no voxel size: give --spacing",
        modality="MR",
        options=(*_COMMON, "spacing_mm", "label_names"),
        looks_like=ssl4mis_h5.looks_like,
        survey=ssl4mis_h5.survey,
    ),
    "sam-med3d": Format(
        name="sam-med3d",
        description="SAM-Med3D / SA-Med3D-140K: a folder per class and source, binary masks, merged by case",
        modality="CT, MR",
        options=(*_COMMON, "overlap", "subset"),
        looks_like=sam_med3d.looks_like,
        survey=sam_med3d.survey,
    ),
    "folder": Format(
        name="folder",
        description="images and masks paired by name: NIfTI, NRRD, MHA, PNG, JPG, TIFF, DICOM series",
        modality="any",
        options=tuple(field.name for field in fields(ConvertOptions) if field.name != "subset"),
        looks_like=folder.looks_like,
        survey=folder.survey,
    ),
}

_FLAGS = {
    "spacing_mm": "--spacing",
    "image_suffixes": "--image-suffix",
    **{
        field.name: "--" + field.name.replace("_", "-")
        for field in fields(ConvertOptions)
        if field.name not in ("spacing_mm", "image_suffixes")
    },
}


def recognise(source: Path) -> str | None:
    """The format that a folder looks like; the more particular one where several fit."""
    return next((name for name, known in FORMATS.items() if known.looks_like(source)), None)


def survey_source(
    source: Path, format_name: str, options: ConvertOptions, *, workers: int | None, reporter: Reporter
) -> Survey:
    """Understand a source in the format that was named.

    Raises:
        ConfigError: no such format, or an option that it does not take.
        DataError: there is no such folder, it is empty, or it is of another format.
    """
    if format_name not in FORMATS:
        raise ConfigError(
            f"unknown format '{format_name}'", why=did_you_mean(format_name, FORMATS), fix="medmoe convert --list"
        )
    known = FORMATS[format_name]
    _require_source(source)
    _require_options(known, options)
    likely = recognise(source)
    by_files = known.name == folder.NAME and options.images is not None
    if known.name in _WITH_JSON and (source / "dataset.json").is_file():
        jsonio.read(source / "dataset.json")  # a broken one is the reason that it looks like nothing
    if not known.looks_like(source) or (likely != known.name and known.name == folder.NAME and not by_files):
        raise _other_format(source, known, likely)
    return known.survey(source, options, workers=workers, reporter=reporter)


def _other_format(source: Path, known: Format, likely: str | None) -> DataError:
    what = f"not a source of format {known.name}"
    inner = next((path for path in sorted(source.iterdir()) if path.is_dir() and known.looks_like(path)), None)
    if inner is not None and known.name != folder.NAME:
        fix = f"medmoe convert {inner} --format {known.name} --name NAME"
        return DataError(what, where=source, why=f"its sub-folder {inner.name} is one", fix=fix)
    if likely is None:
        return DataError(what, where=source, why="it looks like no known format", fix="medmoe convert --list")
    fix = f"medmoe convert {source} --format {likely} --name NAME"
    return DataError(what, where=source, why=f"it looks like {likely}", fix=fix)


def _require_source(source: Path) -> None:
    if not source.exists():
        raise DataError("folder not found", where=source, fix="check the path")
    if not source.is_dir():
        raise DataError("a file where a folder was expected", where=source, fix="unpack it, or name its folder")
    if not any(source.iterdir()):
        raise DataError("an empty folder", where=source, fix="name the folder that holds the data")


def _require_options(known: Format, options: ConvertOptions) -> None:
    defaults = ConvertOptions()
    given = [field.name for field in fields(options) if getattr(options, field.name) != getattr(defaults, field.name)]
    problems = []
    for name in given:
        if name not in known.options:
            takers = ", ".join(other.name for other in FORMATS.values() if name in other.options)
            problems.append(
                ConfigError(
                    f"{_FLAGS[name]} does nothing for --format {known.name}",
                    why=f"it is an option of {takers}",
                    fix="leave it out",
                )
            )
    raise_all(problems)
