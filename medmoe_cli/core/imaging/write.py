"""Writing results where their input was: same grid, same header, re-opened and compared before they count.

No text of the input is copied (descriptions, file names, extensions can name patients).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import DataError, ResourceError
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, ending_of
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image, Labels
from medmoe_cli.core.imaging.metaimage import write_metaimage
from medmoe_cli.core.imaging.nifti_write import lost_fields, write_nifti
from medmoe_cli.core.imaging.nrrd_files import write_nrrd
from medmoe_cli.core.imaging.pictures import write_png
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.imaging.tiff import sidecar_of, write_tiff

_LABEL_ENDINGS = {"png": ".png", "jpg": ".png", "tiff": ".tif", "nrrd": ".nrrd", "mha": ".mha", "dicom": ".nii.gz"}


def label_ending(image: Image | Labels) -> str:
    """The ending for a label map of this input: its own where that format holds labels without loss."""
    path = image.header.path
    if image.header.format == "nifti":
        return ".nii" if ending_of(path) == ".nii" else ".nii.gz"
    if image.header.format == "tiff":
        return ending_of(path) or ".tif"
    return _LABEL_ENDINGS[image.header.format]


def write_labels(
    path: Path,
    labels_XYZ: NDArray[Any],
    like: Image | Labels,
    *,
    label_names: Mapping[str, int] | None = None,
) -> Path:
    """Write a label map in its input's space, whole or not at all.

    Args:
        path: its ending decides the format (`label_ending` tells the fitting one).
        labels_XYZ: whole numbers 0..65535 on the grid of `like`.
        like: the input: NIfTI keeps its header (affine, codes, units).
        label_names: the classes; the largest value decides between uint8 and uint16, so that all cases of a dataset
            have one type. Without them the map's own maximum does.

    Raises:
        ResourceError: the disk is full, or what was written does not read back.
        DataError: the format cannot hold it.
    """
    _require_grid(labels_XYZ, like.geometry)
    if labels_XYZ.dtype.kind not in "uib":
        raise ValueError(f"labels are whole numbers, not {labels_XYZ.dtype}")
    low, high = int(labels_XYZ.min()), int(labels_XYZ.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ValueError(f"labels from {low} to {high} do not fit uint16")
    high = max([high, *(label_names or {}).values()])
    dtype = np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16
    return _write(path, labels_XYZ.astype(dtype)[None], like, labels=True)


def write_volume(path: Path, data: NDArray[Any], like: Image | Labels) -> Path:
    """Write a float map (X, Y, Z), or several (C, X, Y, Z), as float32 in the input's space.

    NIfTI, NRRD, MHA or (one map) TIFF, by the ending of `path`.

    Raises:
        ResourceError, DataError: as `write_labels`.
    """
    channels = data[None] if data.ndim == 3 else data
    _require_grid(channels[0], like.geometry)
    return _write(path, channels.astype(np.float32), like, labels=False)


def write_image(path: Path, image: Image) -> Path:
    """Write an image without loss, its voxels in their type, by the ending of `path`.

    Raises:
        ResourceError, DataError: as `write_labels`.
    """
    _require_grid(image.data[0], image.geometry)
    return _write(path, image.data, image, labels=False)


def _require_grid(array: NDArray[Any], geometry: Geometry) -> None:
    if array.shape != geometry.shape:
        raise ValueError(f"an array of {array.shape} for a grid of {geometry.shape}")


def _write(path: Path, data: NDArray[Any], like: Image | Labels, *, labels: bool) -> Path:
    """Write (C, X, Y, Z) through a temporary sibling that is read back and compared."""
    kind = ENDING_FORMATS.get(ending_of(path), "")
    writers: dict[str, Callable[[Path], None]] = {
        "nifti": lambda temporary: write_nifti(temporary, data, like, labels=labels),
        "nrrd": lambda temporary: write_nrrd(temporary, data, like.geometry),
        "mha": lambda temporary: write_metaimage(temporary, data, like.geometry),
        "png": lambda temporary: write_png(temporary, data),
        "tiff": lambda temporary: write_tiff(temporary, data),
    }
    if kind not in writers or path.name.lower().endswith(".mhd"):
        raise DataError(
            "cannot write this format", where=path, why=f"'{path.suffix}'", fix="use .nii.gz, .nrrd, .mha, .png or .tif"
        )
    _require_room(kind, path, data)
    if kind == "tiff" and like.geometry.spacing_mm != (1.0, 1.0, 1.0):
        x, y, z = like.geometry.spacing_mm
        jsonio.write(sidecar_of(path), {"spacing": [z, y, x]})
    return atomic.replace_file(path, writers[kind], verify=lambda temporary: _verify(temporary, path, data, like, kind))


def _require_room(kind: str, path: Path, data: NDArray[Any]) -> None:
    """Refuse what a picture format cannot hold."""
    if kind == "png" and data.shape[3] != 1:
        raise DataError("PNG cannot hold a volume", where=path, why=f"{data.shape[3]} slices", fix="write .nii.gz")
    if kind == "tiff" and len(data) not in (1, 3):
        raise DataError("TIFF cannot hold this", where=path, why=f"{len(data)} channels", fix="write .nii.gz")


def _verify(temporary: Path, path: Path, data: NDArray[Any], like: Image | Labels, kind: str) -> None:
    """Read the file back: voxels, type and place must be those that were meant."""
    try:
        back = read_image(temporary)
    except DataError as error:
        raise _not_as_meant(path, error.line()) from error
    if back.data.dtype != data.dtype or not np.array_equal(back.data, data):
        raise _not_as_meant(path, "its voxels differ")
    if kind in ("png", "tiff"):
        return  # these carry no space (a TIFF's sidecar does, under the final name)
    moved = back.geometry.corner_distance_mm(like.geometry)
    # NIfTI-1 keeps affines as float32: seven digits of the largest coordinate.
    allowed = 1e-6 * max(1.0, float(np.abs(like.geometry.affine).max()), max(like.geometry.extent_mm))
    if back.geometry.shape != like.geometry.shape or moved > allowed:
        raise _not_as_meant(path, f"it lies {moved:.2g} mm from where it should")
    if kind == "nifti":
        lost = lost_fields(back, like)
        if lost:
            raise _not_as_meant(path, f"its header lost {', '.join(lost)}")


def _not_as_meant(path: Path, why: str) -> ResourceError:
    return ResourceError("written file does not read back", where=path, why=why, fix="check the disk, then run again")
