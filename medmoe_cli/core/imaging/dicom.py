"""DICOM series to volumes: one series, sorted by position, evenly spaced, not tilted, or refused with the reason.

DICOM PS3.3 C.7.6.2: ImagePositionPatient is the centre of the first pixel, ImageOrientationPatient the directions of
a row (along columns) and of a column (along rows), PixelSpacing the distance between rows, then between columns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from medmoe_cli.core.base.errors import DataError, GeometryError
from medmoe_cli.core.imaging import payload
from medmoe_cli.core.imaging.dicom_files import PYDICOM_ERRORS, Item, choose_series, damaged
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.lps import geometry_from_lps

POSITION_TOLERANCE = 0.1
"""How far a slice may lie from its place in an even stack, in slice spacings (positions are often rounded)."""

MAX_TILT_DEGREES = 0.5
_ORIENTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a slice lies: its first pixel's centre, and along a row and a column as unit vectors (LPS mm)."""

    position_mm: NDArray[np.float64]
    directions_32: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.directions_32[:, 0], self.directions_32[:, 1])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """One slice: which object and frame it is, and where it lies."""

    item: Item
    index: int
    rows: int
    cols: int
    spacing_mm: tuple[float, float]
    thickness_mm: float
    place: _Place | None
    rescale: tuple[float, float] | None


def read_dicom(path: Path, *, series: str | None = None) -> Image:
    """Read one series from a folder, file or zip.

    Args:
        path: a folder with the slices, one file (also multi-frame), or a zip of slices.
        series: SeriesInstanceUID, needed where there are several.

    Returns:
        data (C, X, Y, Z): X along a row, Y down the rows, Z along the slice normal. Rescaled values; int16 or int32
        where they are whole, else float32. MONOCHROME1 is inverted, so that bright is bright.

    Raises:
        DataError, GeometryError: several series, a damaged object, an uneven, tilted or mixed stack.
    """
    with _quiet():
        return _read(path, series)


def dicom_geometry(path: Path, *, series: str | None = None) -> Geometry:
    """The grid, from headers alone.

    Raises:
        DataError, GeometryError: as `read_dicom`, where the headers show it.
    """
    with _quiet():
        return _geometry(_stack(path, series), path)


def slice_names(path: Path, *, series: str | None = None) -> tuple[str, ...]:
    """The file of each slice of `read_dicom`, along its Z: for masks that come as one picture per slice.

    Raises:
        DataError, GeometryError: as `read_dicom`, where the headers show it.
    """
    with _quiet():
        return tuple(frame.item.name for frame in _stack(path, series))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pydicom's warnings: they print values of the file, and what matters is checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\..*)?")
        yield


def _read(path: Path, series: str | None) -> Image:
    frames = _stack(path, series)
    geometry = _geometry(frames, path)
    first = frames[0]
    size = len(frames) * first.rows * first.cols * 4
    if size > payload.MAX_VOXEL_BYTES:
        why = f"{size / 2**30:.0f} GiB of voxels"
        raise DataError("image too large", where=path, why=why, fix="crop or downsample it")
    slices: list[NDArray[Any]] = []
    notes: set[str] = set()
    loaded: dict[int, NDArray[Any]] = {}
    for frame in frames:
        key = id(frame.item)
        if key not in loaded:
            loaded = {key: _pixels(frame.item, notes)}
        slices.append(_slice(loaded[key], frame, path))
    data = _join(slices)
    payload.require_finite(data.ravel(), (data.size,), path)
    return Image(data=data, geometry=geometry, header=Header(format="dicom", path=path, notes=tuple(sorted(notes))))


def _stack(path: Path, series: str | None) -> list[_Frame]:
    """The frames of the series, sorted along the slice normal, one size, one orientation."""
    items = choose_series(path, series).items
    frames: list[_Frame] = []
    for item in _without_localizers(items):
        try:
            frames += _frames(item)
        except PYDICOM_ERRORS as error:
            raise damaged(item, error) from error
    first = frames[0]
    sizes = sorted({(frame.rows, frame.cols) for frame in frames})
    if len(sizes) > 1:
        why = ", ".join(f"{rows}x{cols}" for rows, cols in sizes)
        raise GeometryError("slices of different sizes", where=path, why=why, fix="separate them into folders")
    if len(frames) == 1:
        return frames
    for frame in frames:
        if frame.place is None or first.place is None:
            why = "no ImagePositionPatient or ImageOrientationPatient: its place in the stack is unknown"
            fix = "convert the images one by one"
            raise GeometryError("slice without a position", where=str(frame.item), why=why, fix=fix)
        if not np.allclose(frame.place.directions_32, first.place.directions_32, atol=_ORIENTATION_TOLERANCE):
            why = f"{first.item.name} and {frame.item.name}"
            fix = "separate them into folders"
            raise GeometryError("slices of different orientations in one series", where=path, why=why, fix=fix)
        if not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=1e-3):
            why = f"{frame.spacing_mm} and {first.spacing_mm} mm"
            fix = "separate them into folders"
            raise GeometryError("slices of different pixel spacing in one series", where=path, why=why, fix=fix)
    return sorted(frames, key=lambda frame: float(_place(frame).position_mm @ _place(first).normal))


def _geometry(frames: Sequence[_Frame], path: Path) -> Geometry:
    first = frames[0]
    shape = (first.cols, first.rows, len(frames))
    row_mm, col_mm = first.spacing_mm
    if first.place is None:
        return Geometry.plain(shape, (col_mm, row_mm, first.thickness_mm))
    columns = np.zeros((3, 3))
    columns[:, :2] = first.place.directions_32 * (col_mm, row_mm)
    if len(frames) == 1:
        columns[:, 2] = first.place.normal * first.thickness_mm
    else:
        positions_N3 = np.array([_place(frame).position_mm for frame in frames])
        _check_even(frames, positions_N3 @ first.place.normal, path)
        _check_straight(frames, positions_N3, first.place.normal, path)
        columns[:, 2] = (positions_N3[-1] - positions_N3[0]) / (len(frames) - 1)
    return geometry_from_lps(shape, columns, first.place.position_mm, path)


def _check_even(frames: Sequence[_Frame], depth_N: NDArray[np.float64], path: Path) -> None:
    gaps = np.diff(depth_N)
    smallest, largest = int(np.argmin(gaps)), int(np.argmax(gaps))
    if gaps[smallest] < 1e-3 * max(float(np.median(gaps)), 1e-3):
        why = f"{frames[smallest].item.name} and {frames[smallest + 1].item.name}, at {depth_N[smallest]:.4g} mm"
        fix = "keep one of them, or separate the volumes (phases, echoes) into folders"
        raise GeometryError("two slices at one position", where=path, why=why, fix=fix)
    even = np.linspace(depth_N[0], depth_N[-1], len(depth_N))
    if np.abs(depth_N - even).max() > POSITION_TOLERANCE * (even[1] - even[0]):
        after = frames[largest].item.name
        why = f"gaps between slices from {gaps[smallest]:.4g} to {gaps[largest]:.4g} mm (the largest after {after})"
        fix = "add the missing slices, or resample the series to an even spacing"
        raise GeometryError("unevenly spaced slices", where=path, why=why, fix=fix)


def _check_straight(
    frames: Sequence[_Frame], positions_N3: NDArray[np.float64], normal: NDArray[np.float64], path: Path
) -> None:
    along = positions_N3[-1] - positions_N3[0]
    cosine = float(along @ normal) / float(np.linalg.norm(along))
    degrees = math.degrees(math.acos(min(cosine, 1.0)))
    if degrees > MAX_TILT_DEGREES:
        why = f"the stack leans {degrees:.1f} degrees from the slices' normal (gantry tilt)"
        fix = "correct the tilt first (for instance dcm2niix, which resamples the volume)"
        raise GeometryError("tilted stack", where=path, why=why, fix=fix)
    drift_N3 = positions_N3 - (np.linspace(0, 1, len(frames))[:, None] * along + positions_N3[0])
    sideways = np.linalg.norm(drift_N3 - (drift_N3 @ normal)[:, None] * normal, axis=1)
    if sideways.max() > min(frames[0].spacing_mm):
        why = f"slice {frames[int(sideways.argmax())].item.name} is shifted sideways by {sideways.max():.3g} mm"
        raise GeometryError("slices that are not above each other", where=path, why=why, fix="separate the volumes")


def _without_localizers(items: Sequence[Item]) -> list[Item]:
    """Scouts that share the series of the scan are left out."""
    kept = [
        item for item in items if "LOCALIZER" not in [str(word) for word in item.header.get("ImageType", None) or []]
    ]
    return kept or list(items)


def _frames(item: Item) -> list[_Frame]:
    """The frames of one object: one, or those of an enhanced multi-frame object."""
    header = item.header
    count = int(header.get("NumberOfFrames", 1) or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence", None)
    if count == 1 and not per_frame:
        return [_frame(item, 0, header, header, header, rescale=None)]
    if not per_frame or len(per_frame) != count:
        raise DataError(
            "frames without positions",
            where=str(item),
            why=f"{count} frames and no functional group for each (a film?)",
            fix="convert the frames one by one",
        )
    shared = header.get("SharedFunctionalGroupsSequence", None)
    common = shared[0] if shared else None
    return [_enhanced_frame(item, index, group, common) for index, group in enumerate(per_frame)]


def _enhanced_frame(item: Item, index: int, group: Any, shared: Any) -> _Frame:
    def macro(name: str) -> Any:
        for holder in (group, shared):
            sequence = None if holder is None else holder.get(name, None)
            if sequence:
                return sequence[0]
        return {}

    rescale = macro("PixelValueTransformationSequence")
    factors = (float(rescale.get("RescaleSlope", 1) or 1), float(rescale.get("RescaleIntercept", 0) or 0))
    position, orientation = macro("PlanePositionSequence"), macro("PlaneOrientationSequence")
    return _frame(item, index, macro("PixelMeasuresSequence"), position, orientation, rescale=factors)


def _frame(
    item: Item, index: int, measures: Any, position: Any, orientation: Any, *, rescale: tuple[float, float] | None
) -> _Frame:
    spacing = measures.get("PixelSpacing", None) or item.header.get("ImagerPixelSpacing", None) or (1.0, 1.0)
    thickness = measures.get("SpacingBetweenSlices", None) or measures.get("SliceThickness", None) or 1.0
    directions = _directions(orientation.get("ImageOrientationPatient", None), item)
    numbers = (float(spacing[0]), float(spacing[1]), abs(float(thickness)))
    if not all(math.isfinite(value) and value > 0 for value in numbers):
        raise GeometryError("bad pixel spacing", where=str(item), why=f"{numbers} mm", fix="export the series again")
    origin = _vector(position.get("ImagePositionPatient", None), 3)
    place = None if origin is None or directions is None else _Place(position_mm=origin, directions_32=directions)
    return _Frame(
        item=item,
        index=index,
        rows=int(item.header.Rows),
        cols=int(item.header.Columns),
        spacing_mm=numbers[:2],
        thickness_mm=numbers[2],
        place=place,
        rescale=rescale,
    )


def _vector(values: Any, length: int) -> NDArray[np.float64] | None:
    if values is None or len(values) == 0:
        return None
    vector = np.array([float(value) for value in values])
    if len(vector) != length or not np.isfinite(vector).all():
        raise ValueError(f"{list(values)} is not {length} numbers")
    return vector


def _directions(values: Any, item: Item) -> NDArray[np.float64] | None:
    """ImageOrientationPatient as two unit columns (3, 2)."""
    vector = _vector(values, 6)
    if vector is None:
        return None
    directions = vector.reshape(2, 3).T
    lengths = np.linalg.norm(directions, axis=0)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(directions[:, 0] @ directions[:, 1])) > 0.01:
        why = f"ImageOrientationPatient {vector.tolist()} is not two perpendicular unit vectors"
        raise GeometryError("bad orientation", where=str(item), why=why, fix="export the series again")
    return np.asarray(directions / lengths)


def _place(frame: _Frame) -> _Place:
    """The place of a frame that is known to have one."""
    if frame.place is None:
        raise ValueError(f"{frame.item} has no position")
    return frame.place


def _pixels(item: Item, notes: set[str]) -> NDArray[Any]:
    """All frames of an object: (frames, rows, cols) or (frames, rows, cols, 3), rescaled by its modality transform."""
    dataset = item.load()
    try:
        array = np.asarray(pixel_array(dataset))
        colour = int(dataset.get("SamplesPerPixel", 1)) > 1
        if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1":
            array = _inverted(array, dataset)
            notes.add("MONOCHROME1 was inverted, bright is bright")
        if not colour and ("RescaleSlope" in dataset or "ModalityLUTSequence" in dataset):
            array = np.asarray(apply_modality_lut(array, dataset))
    except PYDICOM_ERRORS as error:
        raise damaged(item, error) from error
    return array if array.ndim == 3 + colour else array[None]


def _inverted(array: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Stored values turned around within their range."""
    bits = int(dataset.BitsStored)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if int(dataset.PixelRepresentation) else (0, (1 << bits) - 1)
    return (low + high - array.astype(np.int64)).astype(array.dtype)


def _slice(pixels: NDArray[Any], frame: _Frame, path: Path) -> NDArray[Any]:
    """One frame as (C, X, Y)."""
    if frame.index >= len(pixels) or pixels.shape[1:3] != (frame.rows, frame.cols):
        why = f"pixels {pixels.shape}, header {frame.rows}x{frame.cols}"
        raise DataError("pixels that differ from the header", where=path, why=why, fix="export the series again")
    plane = pixels[frame.index]
    plane = plane[..., None] if plane.ndim == 2 else plane
    if frame.rescale is not None and frame.rescale != (1.0, 0.0):
        plane = plane.astype(np.float64) * frame.rescale[0] + frame.rescale[1]
    return _compact(plane).transpose(2, 1, 0)


def _compact(plane: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int16 or int32 (bytes stay bytes), others as float32."""
    if plane.dtype == np.uint8:
        return plane
    if plane.dtype.kind == "f" and (not np.isfinite(plane).all() or (plane != np.rint(plane)).any()):
        return plane.astype(np.float32)
    low, high = plane.min(), plane.max()
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return plane.astype(dtype)
    return plane.astype(np.float32)


def _join(slices: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack slices to (C, X, Y, Z), in the widest of their types."""
    return np.stack(slices, axis=-1, dtype=np.result_type(*slices), casting="same_kind")
