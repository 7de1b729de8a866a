"""What kind of pictures a set of images is: colour or grey, 8 or 16 bits, flat or stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.filenames import PICTURE_ENDINGS
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.formats import ending_of
from medmoe_cli.core.imaging.read import read_image


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureKind:
    """What a dataset of these images is written as.

    Attributes:
        colour: three channels, grey ones repeated; None where the images are no pictures.
        ending: '.png' when every image fits into one, else '.nii.gz'.
        note: what was seen, '' for volumes.
    """

    colour: bool | None
    ending: Literal[".nii.gz", ".png"]
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    colour: bool
    flat: bool
    bits: int


def survey_pictures(paths: Sequence[Path], *, workers: int | None, reporter: Reporter) -> PictureKind:
    """Look at every picture; volumes are not read. A damaged picture is left for the conversion to report."""
    if not paths or any(ending_of(path) not in PICTURE_ENDINGS for path in paths):
        return PictureKind(colour=None, ending=".nii.gz")
    reporter.start("look at pictures", len(paths))
    found: list[_Facts] = []
    for path, facts in zip(paths, each(_look, paths, workers=worker_count(workers, len(paths)), name=str), strict=True):
        reporter.update(path.name)
        if facts is not None:
            found.append(facts)
    reporter.finish()
    colour = any(facts.colour for facts in found)
    fits = all(facts.flat and facts.bits in (8, 16) and not (facts.colour and facts.bits == 16) for facts in found)
    bits = max((facts.bits for facts in found), default=8)
    note = f"{bits}-bit {'colour' if colour else 'grey'} pictures"
    return PictureKind(colour=colour, ending=".png" if fits else ".nii.gz", note=note)


def _look(path: Path) -> _Facts | None:
    try:
        image = read_image(path)
    except MedMoEError:
        return None
    colour = any((channel != image.data[0]).any() for channel in image.data[1:])
    unsigned = image.data.dtype.kind == "u"
    return _Facts(colour=bool(colour), flat=image.is_2d, bits=image.data.dtype.itemsize * 8 if unsigned else 0)
