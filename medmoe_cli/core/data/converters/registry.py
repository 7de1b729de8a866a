"""The source formats that `medmoe convert` reads: one module each, and what a folder looks like."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, raise_all
from medmoe_cli.core.base.progress import Reporter
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
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey

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
_WITH_JSON = ("msd", "nnunet", "imed361m")

FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}

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


def survey_source(
    source: Path, format_name: str, options: ConvertOptions, *, workers: int | None, reporter: Reporter
) -> Survey:
    """Understand a source in the format that was named.

    Raises:
        ConfigError: no such format, or an option that it does not take.
        DataError: there is no such folder, it is empty, or it is of another format.
    """
    known = require_format(format_name)
    require_source(source)
    require_options(known, options)
    likely = recognise(source)
    # Series in folders are plain files as well; and who says how plain files are to be read means plain files.
    by_files = likely == dicom.NAME or options != ConvertOptions()
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


def require_source(source: Path) -> None:
    """Refuse what is no folder with something in it.

    Raises:
        DataError: it is absent, a file, or empty.
    """
    if not source.exists():
        raise DataError("folder not found", where=source, fix="check the path")
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
