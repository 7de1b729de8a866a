"""Reading any supported image: one function per question, the format is found from the name and checked inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of, read_endings
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image, Labels
from medmoe_cli.core.imaging.scans import Scan, list_scans

__all__ = ["Scan", "format_of", "list_scans", "read_geometry", "read_image", "read_labels"]

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
    if kind == "nifti":
        from medmoe_cli.core.imaging.nifti import read_nifti

        return read_nifti(path)
    if kind == "nrrd":
        from medmoe_cli.core.imaging.nrrd_files import read_nrrd

        return read_nrrd(path)
    if kind == "mha":
        from medmoe_cli.core.imaging.metaimage import read_metaimage

        return read_metaimage(path)
    if kind == "tiff":
        from medmoe_cli.core.imaging.tiff import read_tiff

        return read_tiff(path)
    if kind == "dicom":
        from medmoe_cli.core.imaging.dicom import read_dicom

        return read_dicom(path, series=series)
    from medmoe_cli.core.imaging.pictures import read_picture

    return read_picture(path, kind)


def read_labels(path: Path) -> Labels:
    """Read a label map: whole numbers from 0, one channel.

    Floats within 0.001 of whole numbers are taken (published label maps come so); a palette picture gives indices.

    Returns:
        Labels (X, Y, Z): uint8, uint16 or int32, whichever is enough.

    Raises:
        DataError, GeometryError: it cannot be read, has several channels, or values that are no labels.
    """
    kind = format_of(path)
    if kind == "png":
        from medmoe_cli.core.imaging.pictures import read_picture

        image = read_picture(path, kind, as_label=True)
    else:
        image = read_image(path)
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
    kind = format_of(path)
    readers: dict[str, Callable[[], Callable[[Path], Geometry]]] = {
        "nifti": _nifti_geometry,
        "nrrd": _nrrd_geometry,
        "mha": _mha_geometry,
        "tiff": _tiff_geometry,
        "dicom": _dicom_geometry,
    }
    if kind in readers:
        return readers[kind]()(path)
    from medmoe_cli.core.imaging.pictures import picture_geometry

    return picture_geometry(path, kind)


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
    from medmoe_cli.core.imaging.dicom_files import has_dicom_magic

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


def _nifti_geometry() -> Callable[[Path], Geometry]:
    from medmoe_cli.core.imaging.nifti import nifti_geometry

    return nifti_geometry


def _nrrd_geometry() -> Callable[[Path], Geometry]:
    from medmoe_cli.core.imaging.nrrd_files import nrrd_geometry

    return nrrd_geometry


def _mha_geometry() -> Callable[[Path], Geometry]:
    from medmoe_cli.core.imaging.metaimage import metaimage_geometry

    return metaimage_geometry


def _tiff_geometry() -> Callable[[Path], Geometry]:
    from medmoe_cli.core.imaging.tiff import tiff_geometry

    return tiff_geometry


def _dicom_geometry() -> Callable[[Path], Geometry]:
    from medmoe_cli.core.imaging.dicom import dicom_geometry

    return dicom_geometry
