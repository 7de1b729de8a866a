"""The source formats that `medmoe convert` reads: one module each, and what a folder looks like."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from medmoe_cli.core.base.errors import ConfigError, DataError, raise_all
from medmoe_cli.core.base.release_archives import OTHER_ARCHIVES
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters import (
    acdc,
    amos,
    btcv,
    chaos,
    dicom,
    folder,
    imed361m,
    isic,
    isles2022,
    mmwhs,
    msd,
    nnunet,
    sam_med3d,
    segthor,
    sppin,
    ssl4mis_h5,
    synapse_transunet,
    sz_cxr,
    totalsegmentator,
    word,
)
from medmoe_cli.core.data.converters.format import Format
from medmoe_cli.core.data.converters.source import ConvertOptions

_MODULES = (
    msd,
    nnunet,
    imed361m,
    ssl4mis_h5,
    sam_med3d,
    synapse_transunet,
    btcv,
    mmwhs,
    acdc,
    chaos,
    amos,
    word,
    segthor,
    isic,
    isles2022,
    sppin,
    sz_cxr,
    totalsegmentator,
    dicom,
    folder,
)

FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}

_SPACING_MM = (1e-4, 1e3)  # micrographs to the thickest slices

_FLAGS = {
    "spacing_mm": "--spacing",
    "image_suffixes": "--image-suffix",
    **{
        field.name: "--" + field.name.replace("_", "-")
        for field in fields(ConvertOptions)
        if field.name not in ("spacing_mm", "image_suffixes")
    },
}


def fitting(source: Path) -> list[Format]:
    """The formats that a folder looks like, the most particular ones first."""
    found = [known for known in FORMATS.values() if known.looks_like(source)]
    return sorted(found, key=lambda known: -known.particular)


def recognise(source: Path) -> str | None:
    """The format that a folder looks like; the more particular one where several fit."""
    found = fitting(source)
    return found[0].name if found else None


def require_format(name: str) -> Format:
    """A format by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(f"unknown format '{name}'", why=did_you_mean(name, FORMATS), fix="medmoe convert --list")
    return FORMATS[name]


def require_source(source: Path) -> None:
    """Refuse what is no folder with something in it.

    Raises:
        DataError: it is absent, a file, or empty.
    """
    if not source.exists():
        raise DataError("folder not found", where=source, fix="check the path")
    if not source.is_dir() and source.name.lower().endswith(OTHER_ARCHIVES):
        raise DataError("an archive that is not read here", where=source, why="zip and tar are", fix="unpack it first")
    if not source.is_dir():
        raise DataError(
            "a file where a folder was expected", where=source, fix="name its folder, or a zip or tar of it"
        )
    if not any(source.iterdir()):
        raise DataError("an empty folder", where=source, fix="name the folder that holds the data")


def require_options(known: Format, options: ConvertOptions) -> None:
    """Refuse options that a format does not take, and values that it does not know.

    Raises:
        ConfigError: all of them together.
    """
    defaults = ConvertOptions()
    given = [field.name for field in fields(options) if getattr(options, field.name) != getattr(defaults, field.name)]
    problems = []
    for name, value in (
        *(("subset", value) for value in options.subset if known.subsets),
        *((("label_scheme", options.label_scheme),) if options.label_scheme and known.label_schemes else ()),
    ):
        choices = known.subsets if name == "subset" else known.label_schemes
        if name in known.options and value.lower() not in {choice.lower() for choice in choices}:
            why = f"{did_you_mean(value, choices)}; {known.name} knows {', '.join(choices)}"
            problems.append(ConfigError(f"unknown {_FLAGS[name]} '{value}'", why=why, fix=f"correct {_FLAGS[name]}"))
    spacing = options.spacing_mm or ()
    if not all(_SPACING_MM[0] <= side <= _SPACING_MM[1] for side in spacing):
        said = " ".join(f"{side:g}" for side in spacing)
        low, high = _SPACING_MM
        problems.append(
            ConfigError(
                f"--spacing {said} is no voxel size", why=f"{low:g} to {high:g} mm are", fix="correct --spacing"
            )
        )
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
