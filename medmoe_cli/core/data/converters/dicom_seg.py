"""DICOM segmentation objects: what they mark, of which series, and as a label map on that series' grid (highdicom)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.converters.overlaps import Stack
from medmoe_cli.core.data.converters.turned import onto_voxels
from medmoe_cli.core.imaging.dicom_files import PYDICOM_ERRORS
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.lps import LPS_TO_RAS
from medmoe_cli.core.imaging.resample import resample_labels

RESAMPLED = "segmentation on another grid than its series, resampled onto it (the largest share wins)"
_FRACTION = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """A segmentation object's header.

    Attributes:
        path: of the file.
        series: SeriesInstanceUIDs that it refers to.
        instances: SOPInstanceUIDs that it refers to.
        names: segment number to class name.
    """

    path: Path
    series: frozenset[str]
    instances: frozenset[str]
    names: Mapping[int, str]


def segments_of(path: Path, header: Dataset) -> Segments:
    """What a segmentation marks, from its header."""
    series, instances = set(), set()
    for one in header.get("ReferencedSeriesSequence", []):
        series.add(str(one.get("SeriesInstanceUID", "")))
        instances |= {
            str(item.get("ReferencedSOPInstanceUID", "")) for item in one.get("ReferencedInstanceSequence", [])
        }
    for frame in header.get("PerFrameFunctionalGroupsSequence", []):
        for derived in frame.get("DerivationImageSequence", []):
            for item in derived.get("SourceImageSequence", []):
                instances.add(str(item.get("ReferencedSOPInstanceUID", "")))
    names = {
        int(segment.SegmentNumber): str(segment.get("SegmentLabel", "") or f"segment_{segment.SegmentNumber}").strip()
        for segment in header.get("SegmentSequence", [])
    }
    return Segments(path=path, series=frozenset(series - {""}), instances=frozenset(instances - {""}), names=names)


def load_segments(
    image: Image,
    files: tuple[Path, ...],
    values: Mapping[str, int],
    *,
    overlap: Literal["higher", "lower"],
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The label map of one series, from the segmentations that refer to it.

    Args:
        image: the series.
        files: its segmentation objects.
        values: class name to value; segments of other names are left out.
        overlap: which class keeps a contested voxel.

    Returns:
        (X, Y, Z) uint16 on the image's grid, and notes.

    Raises:
        DataError: an object is damaged, or marks voxels where the series has none.
    """
    stack = Stack(image.geometry.shape, overlap=overlap)
    notes: list[str] = []
    for path in files:
        for name, mask, geometry in _masks(path, values):
            placed = onto_voxels(mask, geometry, image.geometry)
            if placed is None:
                placed = resample_labels(mask, geometry, image.geometry)
                if mask.any() and not placed.any():
                    raise DataError(
                        "a segmentation outside its series",
                        where=path,
                        why=f"nothing of '{name}' lies in the series",
                        fix="remove it, or add the series that it belongs to",
                    )
                notes.append(RESAMPLED)
            stack.add(values[name], placed)
    return stack.label, (*dict.fromkeys(notes), *stack.notes())


def _masks(path: Path, values: Mapping[str, int]) -> list[tuple[str, NDArray[np.uint8], Geometry]]:
    """Every wanted segment of one object, with its grid."""
    import highdicom  # a second to import, and few conversions need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about attributes that other tools leave out
            found = highdicom.seg.segread(path)
            names = {
                number: found.get_segment_description(number).segment_label.strip() or f"segment_{number}"
                for number in found.segment_numbers
            }
            wanted = [number for number, name in names.items() if name in values]
            if not wanted:
                return []
            volume = found.get_volume(segment_numbers=wanted, combine_segments=False)
    except PYDICOM_ERRORS as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(
            "unreadable DICOM segmentation", where=path, why=why, fix="copy it again, or remove it"
        ) from error
    # highdicom counts slices, rows, columns; here x runs along a row, y down the rows, z through the slices.
    swap = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    depth, rows, columns = array.shape[:3]
    geometry = Geometry(shape=(columns, rows, depth), affine=LPS_TO_RAS @ volume.affine @ swap)
    return [
        (names[number], (array[..., index] >= _FRACTION).transpose(2, 1, 0).astype(np.uint8), geometry)
        for index, number in enumerate(wanted)
    ]
