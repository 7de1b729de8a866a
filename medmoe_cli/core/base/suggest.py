"""'Did you mean': the nearest valid spelling of a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice closest to `name`, or None when none is as close as `cutoff`: 1 is the same, 0 nothing in common."""
    options = list(choices)
    lowered = {option.lower(): option for option in options}
    if name.lower() in lowered:
        return lowered[name.lower()]
    found = get_close_matches(name.lower(), list(lowered), n=1, cutoff=cutoff)
    return lowered[found[0]] if found else None


def did_you_mean(name: str, choices: Iterable[str], *, list_up_to: int = 12) -> str:
    """A phrase for an error's `fix`: the suggestion, else the list of choices."""
    options = sorted(choices)
    close = nearest(name, options)
    if close is not None:
        return f"did you mean '{close}'?"
    if not options:
        return "there are none yet"
    shown = ", ".join(options[:list_up_to])
    return f"choose from {shown}" + (f" and {len(options) - list_up_to} more" if len(options) > list_up_to else "")
