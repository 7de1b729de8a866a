"""The cases of an input folder: one file each, or one file per channel (`CASE_0000`, `CASE_0001`, ...)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import DataError, GeometryError, MedMoEError, raise_all
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import list_scans, read_image

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanCase:
    """One case to predict: its id and one file per channel."""

    id: str
    files: tuple[Path, ...]


def find_scans(source: Path, *, num_channels: int | Collection[int]) -> list[ScanCase]:
    """The cases of a folder (or the one that `source` is), sorted by id.

    A file that carries nnU-Net's channel suffix loses it in the case id.

    Args:
        source: as `list_scans` takes it.
        num_channels: what the model was trained on; of a collection, what any member has.

    Raises:
        DataError: nothing is found, or cases lack channels; all together.
    """
    counts = {num_channels} if isinstance(num_channels, int) else set(num_channels)
    grouped: dict[str, dict[int, Path]] = {}
    for scan in list_scans(source):
        match = _CHANNEL.match(scan.id)
        case, channel = (match["case"], int(match["channel"])) if match else (scan.id, 0)
        grouped.setdefault(case, {})[channel] = scan.path
    problems: list[MedMoEError] = []
    cases: list[ScanCase] = []
    for case, files in sorted(grouped.items()):
        wanted = list(range(max(files) + 1))
        if sorted(files) != wanted or len(files) not in {1, *counts}:
            found = ", ".join(f"_{channel:04d}" for channel in sorted(files))
            taken = " or ".join(map(str, sorted(counts)))
            problems.append(
                DataError(
                    f"wrong channels of case '{case}'",
                    where=source,
                    why=f"{found} found, the model takes {taken} channel{'' if taken == '1' else 's'}",
                    fix="give one file per channel, _0000 first",
                )
            )
        cases.append(ScanCase(id=case, files=tuple(files[channel] for channel in sorted(files))))
    raise_all(problems)
    return cases


def read_scan(case: ScanCase, *, num_channels: int | None) -> Image:
    """Read a case and stack its channels.

    Args:
        case: its files.
        num_channels: to make them fit as `with_channels` does; None to leave them as they are.

    Raises:
        DataError: a file cannot be read, or the channels do not fit the model.
        GeometryError: the channels lie on different grids.
    """
    images = [read_image(path) for path in case.files]
    first = images[0]
    problems: list[MedMoEError] = []
    for path, image in zip(case.files[1:], images[1:], strict=True):
        differences = first.geometry.differences(image.geometry)
        if differences:
            problems.append(
                GeometryError(
                    "channels lie on different grids",
                    where=path,
                    why="; ".join(differences),
                    fix=f"resample it to the grid of {case.files[0].name}",
                )
            )
    raise_all(problems)
    data = np.concatenate([image.data for image in images]) if len(images) > 1 else first.data
    found = replace(first, data=data)
    return found if num_channels is None else with_channels(found, num_channels)


def with_channels(image: Image, num_channels: int) -> Image:
    """An image for a network of that many channels; unchanged where it cannot be made to fit.

    A colour picture whose channels are equal serves a grey model, and a grey one a colour model: nothing is lost.
    """
    data = image.data
    if num_channels == 1 and data.shape[0] == 3 and (data[0] == data[1]).all() and (data[0] == data[2]).all():
        data = data[:1]
    elif num_channels == 3 and data.shape[0] == 1 and image.header.format in {"png", "jpg", "tiff"}:
        data = np.repeat(data, 3, axis=0)
    return replace(image, data=data)
