"""A person's veto: MEMBER/CASE, MEMBER/CASE/SLICE or MEMBER/CASE/SLICE/CLASS, one a line, '#' begins a comment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import nearest

_PARTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """One line of the file; None stands for all slices or classes."""

    line: int
    text: str
    member: str
    case: str
    slice: int | None = None
    name: str | None = None


def read_exclusions(path: Path) -> tuple[Exclusion, ...]:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, or lines have another form; all of them together.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read the exclusions", where=path, why=str(error), fix="check --exclude") from error
    found: list[Exclusion] = []
    problems: list[MedMoEError] = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        parts = text.split("/", _PARTS - 1)  # a class's name may hold a slash
        if len(parts) < 2 or not all(parts) or (len(parts) > 2 and not parts[2].isdecimal()):
            problems.append(
                ConfigError(
                    f"line {number} is no exclusion",
                    where=path,
                    why=f"'{text}'",
                    fix="write MEMBER/CASE, MEMBER/CASE/SLICE or MEMBER/CASE/SLICE/CLASS",
                )
            )
            continue
        found.append(
            Exclusion(
                line=number,
                text=text,
                member=parts[0],
                case=parts[1],
                slice=int(parts[2]) if len(parts) > 2 else None,
                name=parts[3] if len(parts) == _PARTS else None,
            )
        )
    raise_all(problems)
    return tuple(found)


def unknown_members(exclusions: Sequence[Exclusion], members: Sequence[str], path: Path) -> list[MedMoEError]:
    """Lines that name no member."""
    return [_unknown(one, path, "member", one.member, members) for one in exclusions if one.member not in members]


def excluded_rows(
    exclusions: Sequence[Exclusion],
    table: NDArray[Any],
    *,
    member: str,
    cases: Sequence[str],
    names: Mapping[int, str],
    path: Path,
) -> tuple[NDArray[np.bool_], list[MedMoEError]]:
    """The rows of a member's table that are excluded, and the lines that name nothing in it.

    Args:
        exclusions: all of the file's.
        table: rows of `quality_scan.ROW`.
        member: whose table it is.
        cases: ids, which rows name by place.
        names: class name by label value.
        path: the file, for the problems.
    """
    rows = np.zeros(len(table), bool)
    places = {case: place for place, case in enumerate(cases)}
    values = {name: value for value, name in names.items()}
    problems: list[MedMoEError] = []
    for one in exclusions:
        if one.member != member:
            continue
        if one.case not in places:
            problems.append(_unknown(one, path, "training case", one.case, cases))
            continue
        hit = table["case"] == places[one.case]
        if one.slice is not None:
            hit &= table["slice"] == one.slice
            if not hit.any():
                problems.append(_unknown(one, path, "mask in slice", str(one.slice), ()))
                continue
        if one.name is not None:
            if one.name not in values:
                problems.append(_unknown(one, path, "class", one.name, tuple(values)))
                continue
            hit &= table["value"] == values[one.name]
            if not hit.any():
                problems.append(_unknown(one, path, "mask of class", one.name, ()))
                continue
        rows |= hit
    return rows, problems


def _unknown(one: Exclusion, path: Path, kind: str, name: str, known: Sequence[str]) -> ConfigError:
    close = nearest(name, known) if known else None
    hint = f", did you mean '{close}'?" if close else ""
    return ConfigError(
        f"no {kind} '{name}'", where=f"{path}:{one.line}", why=f"{one.text}{hint}", fix="correct or remove the line"
    )
