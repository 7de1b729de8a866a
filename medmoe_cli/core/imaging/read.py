"""Reading any supported image: one function per question, the format is found from the name and checked inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.dicom import dicom_geometry, read_dicom
from medmoe_cli.core.imaging.dicom_files import has_dicom_magic
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of, read_endings
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image, Labels
from medmoe_cli.core.imaging.metaimage import metaimage_geometry, read_metaimage
from medmoe_cli.core.imaging.nifti import nifti_geometry, read_nifti
from medmoe_cli.core.imaging.nrrd_files import nrrd_geometry, read_nrrd
from medmoe_cli.core.imaging.pictures import picture_geometry, read_picture
from medmoe_cli.core.imaging.scans import Scan, list_scans
from medmoe_cli.core.imaging.tiff import read_tiff, tiff_geometry

__all__ = ["Scan", "format_of", "list_scans", "read_geometry", "read_image", "read_labels"]

_READERS: dict[str, Callable[[Path], Image]] = {
    "nifti": read_nifti,
    "nrrd": read_nrrd,
    "mha": read_metaimage,
    "tiff": read_tiff,
    "png": partial(read_picture, kind="png"),
    "jpg": partial(read_picture, kind="jpg"),
}
_GEOMETRIES: dict[str, Callable[[Path], Geometry]] = {
    "nifti": nifti_geometry,
    "nrrd": nrrd_geometry,
    "mha": metaimage_geometry,
    "tiff": tiff_geometry,
    "png": partial(picture_geometry, kind="png"),
    "jpg": partial(picture_geometry, kind="jpg"),
    "dicom": dicom_geometry,
}
LABEL_TOLERANCE = 1e-3
MAX_LABEL = 2**31 - 1


def read_image(path: Path, *, series: str | None = None) -> Image:
    """Read an image with its geometry and header.

    Args:
        path: a file, a DICOM folder or a zip of DICOM files.
        series: SeriesInstanceUID, for DICOM folders with several.

    Returns:
        Voxels (C, X, Y, Z) in the file's own voxel order.

    Raises:
        DataError, GeometryError: whatever is wrong with it, in one line.
    """
    kind = format_of(path)
    return read_dicom(path, series=series) if kind == "dicom" else _READERS[kind](path)


def read_labels(path: Path) -> Labels:
    """Read a label map: whole numbers from 0, one channel.

    Floats within 0.001 of whole numbers are taken (published label maps come so); a palette picture gives indices.

    Returns:
        Labels (X, Y, Z): uint8, uint16 or int32, whichever is enough.

    Raises:
        DataError, GeometryError: it cannot be read, has several channels, or values that are no labels.
    """
    png = format_of(path) == "png"
    image = read_picture(path, kind="png", as_label=True) if png else read_image(path)
    if image.num_channels != 1:
        raise DataError(
            "not a label map", where=path, why=f"{image.num_channels} channels", fix="give one map with a value a class"
        )
    return Labels(data=as_labels(image.data[0], path), geometry=image.geometry, header=image.header)


def read_geometry(path: Path) -> Geometry:
    """The grid of an image, from its header alone.

    Raises:
        DataError, GeometryError: the header is wrong or contradicts the file's size.
    """
    return _GEOMETRIES[format_of(path)](path)


def as_labels(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Values as uint8, uint16 or int32 labels.

    Raises:
        DataError: a value is negative, too large, or not whole.
    """
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        off = np.abs(values - rounded)
        if off.size and off.max() > LABEL_TOLERANCE:
            worst = float(values.flat[int(off.argmax())])
            count = int((off > LABEL_TOLERANCE).sum())
            fix = "give the label map, not a probability map or a resampled one"
            raise DataError("not a label map", where=path, why=f"{count} values such as {worst:.4g}", fix=fix)
        values = rounded
    low, high = values.min(), values.max()
    if low < 0 or high > MAX_LABEL:
        raise DataError(
            "not a label map", where=path, why=f"values from {low} to {high}", fix="labels are whole numbers from 0"
        )
    for dtype in (np.uint8, np.uint16):
        if high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.int32)


def format_of(path: Path) -> str:
    """nifti, nrrd, mha, png, jpg, tiff or dicom, from the name (DICOM: also from the content).

    Raises:
        DataError: nothing is there, or it is no image.
    """
    if not path.exists():
        raise DataError("file not found", where=path, fix="check the path")
    ending = ending_of(path)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return "dicom"
    if ending:
        return ENDING_FORMATS[ending]
    if has_dicom_magic(path):
        return "dicom"
    raise DataError(
        "not an image",
        where=path,
        why=f"its ending is none of {read_endings()} and it is no DICOM file",
        fix="convert it to .nii.gz",
    )
