"""PNG and JPG in, PNG out. Pillow decodes; its silent leniencies are switched off.

A picture is a volume of one slice, (C, columns, rows, 1), so its rows run down the screen.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image

_MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}
_GREY_MODES = {"L", "I;16", "I;16B", "I;16L", "I", "F"}
# What Pillow raises on damaged pictures; SyntaxError is its word for broken chunks.
_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    PillowImage.DecompressionBombError,
)


def read_picture(path: Path, kind: str, *, as_label: bool = False) -> Image:
    """Read a PNG or JPG.

    Args:
        path: the file.
        kind: 'png' or 'jpg'; the content must be that.
        as_label: a palette picture gives its indices, not its colours; a 1-bit picture gives 0 and 1, not 0 and 255;
            a colour picture must be grey in all pixels and gives that grey.

    Returns:
        data (C, columns, rows, 1): 1 channel, or 3 for colour (transparency is dropped).

    Raises:
        DataError: it is damaged, of another kind, or a label in colours.
    """
    check_magic(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters raises
            with PillowImage.open(path) as probe:
                probe.verify()  # PNG checksums, which loading skips
            with PillowImage.open(path) as picture:
                if getattr(picture, "n_frames", 1) > 1:
                    raise _bad(path, "it has several frames")
                array = _label_array(picture, path) if as_label else _image_array(picture)
    except UnidentifiedImageError as error:
        raise _bad(path, f"its content is not that of a {kind} file") from error
    except _ERRORS as error:
        raise _bad(path, str(error) or type(error).__name__) from error
    data = np.ascontiguousarray(array.transpose(2, 1, 0))[..., None]
    payload.require_finite(data.ravel(), (data.size,), path)
    geometry = Geometry.plain((data.shape[1], data.shape[2], 1))
    return Image(data=data, geometry=geometry, header=Header(format=kind, path=path, notes=_notes(path, kind)))


def picture_geometry(path: Path, kind: str) -> Geometry:
    """The grid, from the header alone.

    Raises:
        DataError: it is no such picture.
    """
    check_magic(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(path) as picture:
                columns, rows = picture.size
    except _ERRORS as error:
        raise _bad(path, str(error) or type(error).__name__) from error
    return Geometry.plain((columns, rows, 1))


def write_png(path: Path, data: NDArray[Any]) -> None:
    """Write (1 or 3, columns, rows, 1) uint8, or (1, ...) uint16, losslessly; the caller makes it atomic.

    Raises:
        DataError: PNG cannot hold it.
    """
    rows_first = np.ascontiguousarray(data[..., 0].transpose(2, 1, 0))
    if rows_first.dtype == np.uint8 and rows_first.shape[2] in (1, 3):
        array = rows_first[..., 0] if rows_first.shape[2] == 1 else rows_first
    elif rows_first.dtype == np.uint16 and rows_first.shape[2] == 1:
        array = rows_first[..., 0]
    else:
        why = f"{rows_first.shape[2]} channels of {rows_first.dtype}"
        raise DataError("PNG cannot hold this image", where=path, why=why, fix="write .nii.gz or .tif instead")
    PillowImage.fromarray(array).save(path, format="PNG")


def check_magic(path: Path, kind: str) -> None:
    """Refuse a file whose first bytes are not those of its kind."""
    with payload.open_file(path) as file:
        start = payload.read_block(file, 8, path)
    if not start.startswith(_MAGIC[kind]):
        why = f"it starts with {start!r}"
        raise DataError(f"not a {kind.upper()} file", where=path, why=why, fix="check what the file is")


def _image_array(picture: PillowImage.Image) -> NDArray[Any]:
    """(rows, columns, C)."""
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("LA", "La"):
        picture = picture.getchannel(0)
    elif picture.mode not in _GREY_MODES and picture.mode != "RGB":
        picture = picture.convert("RGB")
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def _label_array(picture: PillowImage.Image, path: Path) -> NDArray[Any]:
    """(rows, columns, 1) of label values."""
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)[..., None]
    if picture.mode in ("LA", "La", "PA"):
        return np.asarray(picture.getchannel(0))[..., None]
    if picture.mode == "P" or picture.mode in _GREY_MODES:
        return np.asarray(picture)[..., None]
    colours = np.asarray(picture.convert("RGB"))
    if (colours != colours[..., :1]).any():
        different = np.unique(colours.reshape(-1, 3), axis=0)
        shown = ", ".join(f"({r},{g},{b})" for r, g, b in different[:5].tolist())
        raise DataError(
            "a label in colours",
            where=path,
            why=f"{len(different)} colours such as {shown}",
            fix="save it as a picture of label values (grey or palette)",
        )
    return colours[..., :1]


def _notes(path: Path, kind: str) -> tuple[str, ...]:
    if kind != "png":
        return ()
    with path.open("rb") as file:
        start = file.read(26)
    depth, colour_type = start[24], start[25]
    return ("16-bit colour was read as 8-bit",) if depth == 16 and colour_type in (2, 6) else ()


def _bad(path: Path, why: str) -> DataError:
    return DataError("damaged picture", where=path, why=why, fix="copy or export it again")
