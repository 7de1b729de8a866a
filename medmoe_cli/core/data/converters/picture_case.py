"""A case that is one picture and one binary mask: dermoscopy, X-rays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.converters.files import place_label
from medmoe_cli.core.data.converters.label_values import SOFT_THRESHOLD
from medmoe_cli.core.data.converters.source import LoadedCase
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.imaging.read import read_image, read_labels

SOFT_MASK = f"a mask with grey edges: foreground is above {SOFT_THRESHOLD}"
EMPTY_MASK = "an empty mask, kept: nothing in the picture is foreground"
COLOURED = "a picture whose colours differ, read as its luminance"
_ENDS = 8
_ENDS_SHARE = 0.8
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def load_picture(picture: Path, mask: Path | None, *, colour: bool) -> LoadedCase:
    """Read a picture in colours or in grey, and its mask where there is one.

    Returns:
        One image of 3 channels (`colour`) or 1; the label holds 0 and 1.

    Raises:
        MedMoEError: a file is damaged, the sizes differ, or the mask is none.
    """
    image = read_image(picture)
    notes: list[str] = []
    if colour and image.num_channels == 1:
        image = replace(image, data=np.repeat(image.data, 3, axis=0))
    elif not colour and image.num_channels == 3:
        image = replace(image, data=_grey(image.data, notes))
    if mask is None:
        return LoadedCase(images=(image,), label=None, notes=tuple(notes))
    label = binary(place_label(image, read_labels(mask), notes), mask, notes)
    return LoadedCase(images=(image,), label=label, notes=tuple(notes))


def binary(values: NDArray[Any], path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """A 0/255 mask as 0 and 1; grey edges, as resized copies have them, are cut at half and noted.

    Raises:
        DataError: the values are not those of such a mask.
    """
    found, counts = np.unique(values, return_counts=True)
    low, high = counts[found <= _ENDS].sum(), counts[found >= 255 - _ENDS].sum()
    if found[-1] > 255 or low + high < _ENDS_SHARE * counts.sum() or (high == 0 and found[-1] > 0):
        raise DataError(
            "a mask that is no 0/255 mask",
            where=path,
            why=f"its values are {some((str(value) for value in found.tolist()), 8)}",
            fix="restore the release's mask, or leave the case out",
        )
    if found[-1] == 0:
        notes.append(EMPTY_MASK)
    elif not set(found.tolist()) <= {0, 255}:
        notes.append(SOFT_MASK)
    return (values > SOFT_THRESHOLD).astype(np.uint8)


def _grey(data_CXYZ: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    if (data_CXYZ == data_CXYZ[:1]).all():
        return data_CXYZ[:1]
    notes.append(COLOURED)
    luma = np.tensordot(_LUMA, data_CXYZ.astype(np.float64), axes=1)
    return np.rint(luma).astype(data_CXYZ.dtype)[None]
