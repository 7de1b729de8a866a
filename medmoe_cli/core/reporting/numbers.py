"""Numbers as a reader wants them: few digits, units, a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

DASH = "–"


def ratio(value: float | None) -> str:
    """A value in [0, 1], such as Dice."""
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def millimetres(value: float | None) -> str:
    """A distance: one digit after the point, two below 1 mm."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:.{distance_digits([value])}f}"


def distance_digits(distances_mm: Sequence[float]) -> int:
    """Digits after the point for distances that are shown together."""
    return 1 if max(map(abs, distances_mm), default=0.0) >= 1 else 2


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign; what rounds to nothing is zero, without one."""
    if value is None or math.isnan(value):
        return DASH
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def volume_digits(volumes_ml: Sequence[float]) -> int:
    """Digits after the point for volumes that are shown together: more where they are small."""
    largest = max((abs(volume) for volume in volumes_ml if math.isfinite(volume)), default=0.0)
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def percent(share: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage."""
    return DASH if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int, one: str, many: str | None = None) -> str:
    """'1 case', '2 cases'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names separated by commas, the rest counted."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
