"""What is scored: classes of a label map, and the tolerance each is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_TOLERANCE_MM = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredClass:
    """A class, or a region made of several label values.

    Attributes:
        name: for tables; the value itself where nobody named it.
        values: label values that belong to it, background excluded.
    """

    name: str
    values: tuple[int, ...]

    @property
    def key(self) -> str:
        """Its key in summary.json, as nnU-Net writes it: '1', or '(1, 2)' for a region."""
        return str(self.values[0]) if len(self.values) == 1 else str(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """The distance that NSD forgives, in mm: one for all classes, or a class's own by name."""

    default_mm: float = DEFAULT_TOLERANCE_MM
    by_name_mm: Mapping[str, float] = field(default_factory=dict)

    def of(self, scored: ScoredClass) -> float:
        """The tolerance of a class in mm."""
        return self.by_name_mm.get(scored.name, self.default_mm)
