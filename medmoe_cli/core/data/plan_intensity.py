"""How each channel becomes the network's input, told from its name, its file type and its foreground intensities."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.config.fingerprint import ChannelStatistics, Fingerprint
from medmoe_cli.core.config.plan import ChannelPlan
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.laterality import words

Normalization = Literal["ct", "percentile", "rgb", "zscore", "none"]

_CT_WORD = re.compile(r"^(ct|cta|cbct|hu)\d*$")
_PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
_COLOURS = (frozenset({"r", "red"}), frozenset({"g", "green"}), frozenset({"b", "blue"}))
_LARGEST_BYTE = 255
# SAM-Med3D's window of CT, before its values are standardised.
CT_RANGE = (-1000.0, 1000.0)
_MEANING = {
    "percentile": "percentile, each image's own 0.5 to 99.5",
    "rgb": "rgb, divided by 255",
    "none": "none, as it is",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedChannels:
    """The channels' plans and why."""

    channels: tuple[ChannelPlan, ...]
    reason: str


def plan_channels(
    dataset: Dataset,
    fingerprint: Fingerprint,
    override: str = "auto",
    *,
    window: tuple[float, float] | None = None,
    volumes: bool = False,
) -> PlannedChannels:
    """Choose each channel's normalisation.

    Args:
        dataset: names of channels, the modality.
        fingerprint: foreground intensities.
        override: one normalisation for all channels; 'auto' chooses.
        window: of CT channels; None for the foreground's percentiles.
        volumes: for a 3D method, whose choice is 'zscore'.

    Raises:
        ConfigError: 'zscore' for a 2D method, which normalises slice by slice.
        DataError: a CT window is wanted but the foreground has one single intensity.
    """
    if override == "zscore" and not volumes:
        raise ConfigError(
            "normalisation 'zscore' is for 3D methods",
            where="plan.normalization",
            why="a 2D method normalises slice by slice",
            fix="--set plan.normalization=percentile, or auto",
        )
    channels: list[ChannelPlan] = []
    reasons: dict[str, list[str]] = {}
    for position, key in enumerate(channel_keys(dataset.channels)):
        name, statistics = dataset.channels[position], fingerprint.foreground[key]
        kind, why = _choose(dataset, position, statistics, override, volumes=volumes)
        if kind == "zscore":
            ct = _ct_reason(dataset, position)
            low, high = CT_RANGE if ct else (None, None)
            channels.append(ChannelPlan(name=name, normalization="zscore", low=low, high=high))
            meaning = "zscore, mean 0 and deviation 1 over the voxels above 0"
            if ct:
                meaning += f", after clipping to {CT_RANGE[0]:g} to {CT_RANGE[1]:g} ({ct})"
        elif kind == "ct":
            low, high = window or (statistics.percentile_00_5, statistics.percentile_99_5)
            if not low < high:
                raise DataError(
                    "no intensity window",
                    where=f"{dataset.name}, channel '{name}'",
                    why=f"the foreground's 0.5 and 99.5 percentiles are both {low:g}",
                    fix="--set plan.normalization=percentile",
                )
            channels.append(ChannelPlan(name=name, normalization="ct", low=low, high=high))
            source = "set by the preset or --set" if window else "0.5 and 99.5 percentiles of the foreground"
            meaning = f"ct, {low:g} to {high:g} ({source})"
        else:
            channels.append(ChannelPlan(name=name, normalization=kind))
            meaning = _MEANING[kind]
        reasons.setdefault(f"{meaning}: {why}", []).append(f"'{name}'")
    return PlannedChannels(
        channels=tuple(channels),
        reason="; ".join(f"{', '.join(names)} {text}" for text, names in reasons.items()),
    )


def channel_keys(channels: tuple[str, ...]) -> tuple[str, ...]:
    """The fingerprint's key of each channel: its name, with its position where two channels share one."""
    return tuple(
        name if channels.count(name) == 1 else f"{name} (channel {position})" for position, name in enumerate(channels)
    )


def _choose(
    dataset: Dataset, position: int, statistics: ChannelStatistics, override: str, *, volumes: bool
) -> tuple[Normalization, str]:
    for choice in ("ct", "percentile", "rgb", "zscore", "none"):
        if override == choice:
            return choice, "set by the preset or --set"
    if volumes:
        return "zscore", "what 3D methods learned from"
    bytes_only = statistics.minimum >= 0 and statistics.maximum <= _LARGEST_BYTE
    if len(dataset.channels) == len(_COLOURS) and all(
        channel.casefold() in colour for channel, colour in zip(dataset.channels, _COLOURS, strict=True)
    ):
        if bytes_only:
            return "rgb", "the channels are red, green and blue"
        return "percentile", f"colours of more than 8 bits ({_range(statistics)})"
    if dataset.file_ending.casefold() in _PICTURE_ENDINGS and bytes_only:
        return "rgb", f"8-bit pictures ({_range(statistics)}) are windowed already"
    ct = _ct_reason(dataset, position)
    return ("ct", ct) if ct else ("percentile", "not CT: intensities have no unit")


def _ct_reason(dataset: Dataset, position: int) -> str:
    """What says that a channel is CT; '' when nothing does."""
    own_word = next((word for word in words(dataset.channels[position]) if _CT_WORD.match(word)), None)
    if own_word:
        return f"its name contains '{own_word}'"
    if len(dataset.channels) == 1 and any(_CT_WORD.match(word) for word in words(dataset.modality)):
        return f"the dataset's modality is '{dataset.modality}'"
    return ""


def _range(statistics: ChannelStatistics) -> str:
    return f"{statistics.minimum:g} to {statistics.maximum:g}"
