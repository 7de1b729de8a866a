"""What a source is: the format that fits it, the folder inside it where its layout begins, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.release_archives import ARCHIVE_ENDINGS, OTHER_ARCHIVES
from medmoe_cli.core.data.converters import dicom, folder
from medmoe_cli.core.data.converters.classes import patient_rule
from medmoe_cli.core.data.converters.format import Format
from medmoe_cli.core.data.converters.registry import (
    fitting,
    recognise,
    require_format,
    require_options,
    require_source,
)
from medmoe_cli.core.data.converters.source import ConvertOptions, Survey
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.formats import ending_of, is_junk

_WITH_JSON = ("msd", "nnunet", "imed361m")
_GLANCE = 50  # sub-folders that are looked at for releases of their own
_DEPTH = 5
"""Folders that hold nothing but one folder are looked through up to this deep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detected:
    """What a source was found to be.

    Attributes:
        format: the one that fits.
        root: the folder where its layout begins.
        why: what was found, in words.
        others: less particular formats that fit as well.
    """

    format: Format
    root: Path
    why: str
    others: tuple[str, ...]


def detect(source: Path) -> Detected:
    """The one format that a folder is of.

    Raises:
        DataError: it looks like no known format, or like nothing for a broken dataset.json.
        ConfigError: several formats fit equally well, or it holds several releases; they are named.
    """
    levels = _levels(source)
    plain: Detected | None = None
    for level in levels:
        found = fitting(level)
        if not found:
            continue
        best = [known for known in found if known.particular == found[0].particular]
        others = tuple(known.name for known in found[len(best) :])
        if len(best) > 1:
            names = [known.name for known in best]
            why = "; ".join(f"{known.name}: {known.signs or known.description}" for known in best)
            fix = f"name one: --format {' or --format '.join(names)}"
            raise ConfigError(f"{some(names, 6)} all fit", where=level, why=why, fix=fix)
        detected = Detected(format=best[0], root=level, why=best[0].signs or best[0].description, others=others)
        if best[0].particular > 0:
            return detected
        plain = plain or detected
    _require_sound(levels)
    _require_single(levels[-1])
    if plain is None:
        raise DataError(
            "the source looks like no known format",
            where=source,
            why=f"it holds {_content(levels[-1])}",
            fix=f"unpack {packed[0]} first"
            if (packed := _packed(levels[-1]))
            else "medmoe convert --list names the formats, and where to get them",
        )
    return plain


def root_of(source: Path, known: Format) -> Path:
    """Where the layout of a format begins: the source, or the folder inside it that is all that it holds."""
    return next((level for level in _levels(source) if known.looks_like(level)), source)


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
    if known.name in _WITH_JSON and (source / "dataset.json").is_file():
        jsonio.read(source / "dataset.json")  # a broken one is the reason that it looks like nothing
    # Whoever says how plain files are to be read means plain files; series in folders are that as well.
    means_it = known.name != folder.NAME or options != ConvertOptions()
    if not known.looks_like(source) or not (means_it or recognise(source) in (folder.NAME, dicom.NAME)):
        raise _other_format(source, known)
    survey = known.survey(source, options, workers=workers, reporter=reporter)
    _require_patients(survey, options)
    return survey


def _require_patients(survey: Survey, options: ConvertOptions) -> None:
    rule = patient_rule(options.patient_regex)
    strangers = [case.id for case in survey.cases if rule is not None and not rule.search(case.id)]
    if strangers:
        raise ConfigError(
            f"--patient-regex does not match {len(strangers)} of {len(survey.cases)} case ids",
            why=f"{some(strangers)}: each would count as a patient of its own",
            fix="a pattern that matches all of them, for instance '(.+)_\\d+'",
        )


def _other_format(source: Path, known: Format) -> DataError:
    what = f"not a source of format {known.name}"
    inner = next((path for path in sorted(source.iterdir()) if path.is_dir() and known.looks_like(path)), None)
    if inner is not None and known.name != folder.NAME:
        fix = f"medmoe convert {inner} --format {known.name} --name NAME"
        return DataError(what, where=source, why=f"its sub-folder {inner.name} is one", fix=fix)
    try:
        likely = detect(source).format.name
    except (ConfigError, DataError) as error:
        why = f"{error.what}; {error.why}" if isinstance(error, ConfigError) else "it looks like no known format"
        return DataError(what, where=source, why=why, fix="medmoe convert --list")
    fix = f"medmoe convert {source} --format {likely} --name NAME"
    if likely == folder.NAME:
        expected = known.signs or known.description
        why = f"it looks like {likely}, plain files; {known.name} is {expected}"
        return DataError(what, where=source, why=why, fix=f"name the folder where that begins, or {fix}")
    return DataError(what, where=source, why=f"it looks like {likely}", fix=fix)


def _require_sound(levels: Sequence[Path]) -> None:
    """A dataset.json that cannot be read is the reason that a folder looks like plain files."""
    for level in levels:
        if (level / "dataset.json").is_file():
            jsonio.read(level / "dataset.json")


def _require_single(level: Path) -> None:
    """Releases beside each other are several datasets, not the files of one."""
    inside = sorted(path for path in level.iterdir() if path.is_dir() and not is_junk(path))[:_GLANCE]
    found = {path.name: best[0] for path in inside if (best := fitting(path)) and best[0].particular > 0}
    if len(found) > 1:
        listed = some([f"{name} ({known.name})" for name, known in found.items()], 6)
        first, known = next(iter(found.items()))
        raise ConfigError(
            "several releases in one folder",
            where=level,
            why=listed,
            fix=f"one by one: medmoe convert {level / first} --format {known.name} --name NAME",
        )


def _levels(source: Path) -> list[Path]:
    """The source, then the folders that are the only one inside, without images or a dataset.json beside them."""
    levels = [source]
    while len(levels) < _DEPTH:
        entries = [path for path in levels[-1].iterdir() if not is_junk(path)]
        folders = [path for path in entries if path.is_dir()]
        files = [path for path in entries if not path.is_dir()]
        if len(folders) != 1 or any(ending_of(path) or path.name == "dataset.json" for path in files):
            break
        levels.append(folders[0])
    return levels


def _packed(level: Path) -> list[str]:
    """Archives in it, those among them that only other programs unpack."""
    names = sorted(path.name for path in level.iterdir() if path.is_file() and not is_junk(path))
    return [name for name in names if name.lower().endswith((*ARCHIVE_ENDINGS, *OTHER_ARCHIVES))]


def _content(folder: Path) -> str:
    entries = sorted(path for path in folder.iterdir() if not is_junk(path))
    return some((f"{path.name}/" if path.is_dir() else path.name for path in entries), 5) or "nothing"
