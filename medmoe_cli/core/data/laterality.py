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
    tokens = {name: tuple(words(name)) for name in names}
    known = set(tokens.values())
    found = []
    for axis, pairs in enumerate(_OPPOSITES):
        first = ""
        for name, name_words in tokens.items():
            for one, other in pairs:
                swapped = tuple(other if word == one else one if word == other else word for word in name_words)
                alone = axis == 0 and one == "left"
                if swapped != name_words and (swapped in known or alone):
                    first = first or name
        found.append(first)
    return tuple(found)


def words(name: str) -> list[str]:
    """A name's words in lower case: 'Kidney_left', 'kidneyLeft' and 'kidney left' give the same."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]
