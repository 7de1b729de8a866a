"""Classes from an old dataset.json: labels keyed by value, as the Decathlon, nnU-Net v1 and IMed-361M write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmoe_cli.core.base.errors import ConfigError, DataError


def classes_by_value(content: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Name to value, background excluded, from {'0': 'background', '01': 'liver'} (or the other way round).

    Raises:
        DataError: there are no such labels, or two names are equal.
    """
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DataError("no labels", where=path, why='"labels" is missing or empty', fix="correct dataset.json")
    found: dict[str, int] = {}
    for key, value in labels.items():
        digits, name = (str(key), str(value)) if str(key).strip().isdigit() else (str(value), str(key))
        if not digits.strip().isdigit():
            raise DataError("labels that name no value", where=path, why=f"{key!r}: {value!r}", fix="correct 'labels'")
        if int(digits) == 0:
            continue
        if name in found:
            raise DataError("two labels of one name", where=path, why=name, fix="rename one in 'labels'")
        found[name] = int(digits)
    if not found:
        raise DataError("no labels", where=path, why="there is only background", fix="correct 'labels'")
    return found


def channels_by_number(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Channel names from {'0': 'FLAIR', '1': 'T1w'}, in the order of the numbers; ('image',) without any."""
    modality = content.get("modality")
    if isinstance(modality, dict) and modality:
        ordered = sorted(modality.items(), key=lambda item: (not str(item[0]).isdigit(), str(item[0]).zfill(6)))
        return tuple(str(name) for _, name in ordered)
    return (modality,) if isinstance(modality, str) and modality else ("image",)


def information(content: Mapping[str, Any]) -> dict[str, str]:
    """The informational texts worth keeping; 'relase' and 'license' are met in the wild."""
    spelled = {"relase": "release", "license": "licence"}
    kept = {}
    for key in ("name", "description", "reference", "licence", "license", "release", "relase"):
        value = content.get(key)
        if isinstance(value, str | int | float) and str(value):
            kept[spelled.get(key, key)] = str(value)
    return kept


def patient_rule(regex: str | None) -> re.Pattern[str] | None:
    """The compiled --patient-regex.

    Raises:
        ConfigError: it is no regular expression, or has no group.
    """
    if regex is None:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(
            "bad --patient-regex", why=str(error), fix=r"for instance --patient-regex '(.*)_\d+'"
        ) from error
    if pattern.groups < 1:
        raise ConfigError(
            "bad --patient-regex", why="it has no group (...) for the patient", fix=r"--patient-regex '(.*)_\d+'"
        )
    return pattern


def patient_of(case: str, rule: re.Pattern[str] | None) -> str:
    """The patient of a case: the first group of the rule's first match in its id, else the case itself."""
    match = rule.search(case) if rule is not None else None
    return match[1] if match is not None and match[1] else case
