"""Class names as people say them, for text prompts."""

from __future__ import annotations

import re

_SIDES = ("left", "right")


def class_words(name: str) -> str:
    """'kidney_right' becomes 'right kidney', 'Anterior' 'anterior', 'vertebrae_L5' 'vertebrae L5'.

    The side goes first; words in capitals or with digits keep their case (LV, L5).
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    words = [word for word in re.split(r"[\s_\-]+", spaced.strip()) if word]
    words = [word if _is_code(word) else word.lower() for word in words]
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1:
        words = sides + [word for word in words if word not in _SIDES]
    return " ".join(words) or name


def _is_code(word: str) -> bool:
    return len(word) <= 4 and (word.isupper() or any(character.isdigit() for character in word))
