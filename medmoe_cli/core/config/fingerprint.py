"""What a dataset looks like, measured once: the planner's only source."""

from __future__ import annotations

from medmoe_cli.core.config.sections import Section


class ChannelStatistics(Section):
    """Foreground intensities of one channel over all training cases, from a streaming histogram."""

    mean: float
    std: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_50: float
    percentile_99_5: float
    num_voxels: int


class CaseFacts(Section):
    """One case: its grid in canonical LPS order and what is labelled in it."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    voxels_per_label: dict[int, int]


class Fingerprint(Section):
    """A dataset's fingerprint; `fingerprint.json`.

    `inputs_sha256` identifies the bytes it was computed from, so a stale one is noticed.
    """

    schema_version: int = 1
    dataset: str
    num_cases: int
    num_channels: int
    dimensionality: int
    median_shape: tuple[float, float, float]
    median_spacing_mm: tuple[float, float, float]
    foreground: dict[str, ChannelStatistics]
    cases: dict[str, CaseFacts]
    inputs_sha256: str
