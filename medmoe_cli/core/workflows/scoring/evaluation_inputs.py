"""Which prediction belongs to which reference, and everything that forbids comparing them, found before voxels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import DataError, GeometryError, MedMoEError, ProblemList
from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of, is_junk, read_endings, stem_of
from medmoe_cli.core.imaging.read import read_geometry
from medmoe_cli.core.metrics.summary import CaseFiles

_NAMES_SHOWN = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """The pairs, what is wrong with the folders, and what is only odd."""

    pairs: tuple[CaseFiles, ...]
    problems: tuple[MedMoEError, ...]
    warnings: tuple[str, ...]


def pair_files(predictions: Path, references: Path, *, ignore_missing: bool) -> Pairing:
    """Pair label maps by case id (the file name without its ending); two single files are a pair of themselves.

    Args:
        predictions: a folder or a file.
        references: a folder or a file.
        ignore_missing: score the predicted cases only.

    Raises:
        DataError: a path does not exist, or not one pair is found.
    """
    for path, option in ((predictions, "-p"), (references, "-g")):
        if not path.exists():
            raise DataError("file or folder not found", where=path, fix=f"check the path given with {option}")
    if predictions.is_file() and references.is_file():
        only = CaseFiles(case_id=stem_of(references), reference=references, prediction=predictions)
        return Pairing(pairs=(only,), problems=(), warnings=())
    problems: list[MedMoEError] = []
    predicted, expected = _by_id(predictions, problems), _by_id(references, problems)
    common = sorted(predicted.keys() & expected.keys())
    missing, extra = sorted(expected.keys() - predicted.keys()), sorted(predicted.keys() - expected.keys())
    if not common:
        raise DataError(
            "no prediction has the name of a reference",
            where=predictions,
            why=f"predictions are called {_some(extra)}, references {_some(missing)}",
            fix="give both files of a case the same name (endings may differ)",
        )
    warnings = [f"not scored, no reference has their name: {_some(extra)}"] if extra else []
    if missing and ignore_missing:
        warnings.append(
            f"{len(missing)} of {len(expected)} references are not scored, without prediction: {_some(missing)}"
        )
    elif missing:
        close = nearest(missing[0], extra)
        problems.append(
            DataError(
                f"{len(missing)} of {len(expected)} predictions are missing",
                where=predictions,
                why=f"{_some(missing)}" + (f" ('{close}' looks like '{missing[0]}')" if close else ""),
                fix="predict them, or score the others with --ignore-missing",
            )
        )
    pairs = tuple(CaseFiles(case_id=case, reference=expected[case], prediction=predicted[case]) for case in common)
    return Pairing(pairs=pairs, problems=tuple(problems), warnings=tuple(warnings))


def grid_problems(pairs: Sequence[CaseFiles], *, ignore_geometry: bool) -> tuple[MedMoEError, ...]:
    """One problem for each pair whose grids differ or whose headers cannot be read.

    With `ignore_geometry` only the numbers of voxels must agree.
    """
    problems: list[MedMoEError] = []
    for pair in pairs:
        try:
            reference, prediction = read_geometry(pair.reference), read_geometry(pair.prediction)
        except MedMoEError as error:
            problems.extend(problems_of(error))
            continue
        same_shape = reference.shape == prediction.shape
        if ignore_geometry and same_shape:
            continue
        differences = prediction.differences(reference)
        if not differences:
            continue
        problems.append(
            GeometryError(
                f"prediction on another grid than its reference {pair.reference}",
                where=pair.prediction,
                why=f"prediction against reference: {', '.join(differences)}",
                fix="write the prediction on the grid of its scan"
                + (", or compare voxel by voxel all the same with --ignore-geometry" if same_shape else ""),
            )
        )
    return tuple(problems)


def problems_of(error: MedMoEError) -> tuple[MedMoEError, ...]:
    """The single problems of an error."""
    return tuple(error.problems) if isinstance(error, ProblemList) else (error,)


def _by_id(place: Path, problems: list[MedMoEError]) -> dict[str, Path]:
    """Label files by case id.

    Raises:
        DataError: there are none.
    """
    entries = [place] if place.is_file() else sorted(place.iterdir())
    files = [path for path in entries if path.is_file() and _is_label_map(path)]
    if not files:
        inside = sorted(
            folder.name
            for folder in entries
            if folder.is_dir() and not is_junk(folder) and any(_is_label_map(file) for file in folder.iterdir())
        )
        raise DataError(
            "no label maps",
            where=place,
            why=f"files that end in {read_endings()} are expected",
            fix=f"give a folder inside it: {_some(inside)}" if inside else "check the path",
        )
    found: dict[str, Path] = {}
    for path in files:
        case = stem_of(path)
        if case in found:
            problems.append(
                DataError(
                    f"two files for case '{case}'",
                    where=place,
                    why=f"{found[case].name} and {path.name}",
                    fix="remove one of them",
                )
            )
        found[case] = path
    return found


def _is_label_map(path: Path) -> bool:
    ending = ending_of(path)
    return bool(ending) and ENDING_FORMATS[ending] != "dicom" and not is_junk(path)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
