"""One colour per class, expert use and error, everywhere: told apart by colour-blind readers and in grey print."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito first, then Tol's muted colours for datasets of many classes.
_CLASSES = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255",
    "#117733", "#999933", "#AA4499", "#44AA99", "#332288", "#DDCC77", "#88CCEE", "#CC6677", "#661100",
)  # fmt: skip
# Differences wear no class's colour, and differ in brightness from each other.
MISSED, EXTRA, MIXED_UP = "#EE3377", "#F0E442", "#4466FF"
EXPERT, BALANCE_LINE = "#0072B2", "#D55E00"
INK, FAINT = "#222222", "#BBBBBB"


def class_colours(values: Iterable[int]) -> dict[int, str]:
    """A colour for each label value, by its place among all of a dataset's values."""
    return {value: _CLASSES[index % len(_CLASSES)] for index, value in enumerate(sorted(values))}
