"""Contrasts that lie on grids of their own, brought onto the grid of the one that was annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.data.converters.files import place_label
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase
from medmoe_cli.core.data.grids import Grid, compare_grids
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image, read_labels
from medmoe_cli.core.imaging.resample import resample_image

EMPTY_MASK = "an empty mask, kept: there is nothing to find"


def chosen_channels(options: ConvertOptions, known: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """The contrasts of --subset, in the release's order and spelling.

    Raises:
        ConfigError: an unknown one.
    """
    spelled = {name.lower(): name for name in known}
    for name in options.subset:
        if name.lower() not in spelled:
            raise ConfigError(f"no contrast '{name}'", why=did_you_mean(name, known), fix="correct --subset")
    wanted = {spelled[name.lower()] for name in options.subset} or set(default)
    return tuple(name for name in known if name in wanted)


def load_contrasts(
    reference: Path, contrasts: Sequence[tuple[str, Path]], label: Path | None, *, name: str
) -> LoadedCase:
    """Read contrasts onto the grid of the annotated one; the label is never resampled.

    Args:
        reference: the annotated contrast; it need not be among those that are kept.
        contrasts: name and file, in channel order.
        label: on the reference's grid.
        name: of the reference, for notes.

    Raises:
        MedMoEError: a file is damaged, or the label lies on another grid than the reference.
    """
    base = read_image(reference)
    notes: list[str] = []
    images = tuple(
        base if path == reference else _placed(read_image(path), base, contrast, name, notes)
        for contrast, path in contrasts
    )
    if label is None:
        return LoadedCase(images=images, label=None, notes=tuple(notes))
    found = place_label(base, read_labels(label), notes)
    if not found.any():
        notes.append(EMPTY_MASK)
    return LoadedCase(images=images, label=found, notes=tuple(notes))


def _placed(image: Image, base: Image, contrast: str, name: str, notes: list[str]) -> Image:
    verdict = compare_grids(_grid(base), _grid(image))
    if verdict.kind == "different":
        notes.append(f"{contrast} resampled from its own grid to that of {name} (linear)")
        return replace(base, data=resample_image(image.data, image.geometry, base.geometry))
    if verdict.kind == "near":
        notes.append(f"{contrast} header differs from that of {name} by rounding; the latter is used")
    return replace(base, data=image.data)


def _grid(image: Image) -> Grid:
    return Grid(geometry=image.geometry, header=image.header)
