"""Which mirror images of a patient would turn one class into another, told from the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

AXIS_NAMES = ("left-right", "front-back", "up-down")

# Opposite words along canonical x, y, z. 'l' and 'r' count only as a pair: alone they are too short to mean a side.
_OPPOSITES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("left", "right"), ("l", "r"), ("lt", "rt"), ("lh", "rh")),
    (("anterior", "posterior"), ("ventral", "dorsal"), ("ant", "post")),
    (("superior", "inferior"), ("cranial", "caudal"), ("upper", "lower"), ("sup", "inf")),
)


def sided_names(names: Sequence[str]) -> tuple[str, ...]:
    """For each canonical axis the first name that tells one side from the other, '' where none does.

    A pair of names that differ only in opposite words (kidney_left and kidney_right, anterior and posterior) tells;
    left and right tell even without the other one. 'inferior_vena_cava' alone tells nothing: it is just a name.
    """
    return tuple(next(iter(opposites(names, axis)), "") for axis in range(len(_OPPOSITES)))


def opposites(names: Sequence[str], axis: int) -> dict[str, str]:
    """For each name that tells one side of a canonical axis from the other, the name of the other side.

    '' where it is not among the names, or where several names in the same words could be meant.
    """
    by_words: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        by_words.setdefault(tuple(words(name)), []).append(name)
    found: dict[str, str] = {}
    for name in names:
        name_words = tuple(words(name))
        for one, other in _OPPOSITES[axis]:
            swapped = tuple(other if word == one else one if word == other else word for word in name_words)
            if swapped == name_words:
                continue
            same = by_words.get(swapped, [])
            if same and not found.get(name):
                found[name] = same[0] if len(same) == 1 else ""
            elif axis == 0 and one == "left":
                found.setdefault(name, "")
    return found


def words(name: str) -> list[str]:
    """A name's words in lower case: 'Kidney_left', 'kidneyLeft' and 'kidney left' give the same."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]
