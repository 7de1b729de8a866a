"""DICOM series made from numbers: oblique, uneven, tilted, mixed, enhanced, inverted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLS = 6, 5
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)


def voxels(count: int, seed: int = 0) -> np.ndarray:
    """(slices, rows, cols) int16."""
    return np.random.default_rng(seed).integers(-1000, 1000, (count, ROWS, COLS)).astype(np.int16)


def normal(orientation: tuple[float, ...]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def slice_of(
    pixels: np.ndarray,
    position: np.ndarray,
    *,
    orientation: tuple[float, ...] = OBLIQUE,
    series: str = "1.2.3",
    slope: float = 1.0,
    intercept: float = 0.0,
    spacing: tuple[float, float] = (0.7, 0.5),
    photometric: str = "MONOCHROME2",
    number: int = 1,
) -> FileDataset:
    """One CT slice of (rows, cols) or (rows, cols, 3) pixels."""
    dataset = new(CTImageStorage)
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesDescription = "CT", series, f"series {series}"
    dataset.PatientName, dataset.InstanceNumber = "DOE^JANE", number
    dataset.ImagePositionPatient = [float(value) for value in position]
    dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing, dataset.SliceThickness = list(spacing), 2.5
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    put_pixels(dataset, pixels, photometric)
    return dataset


def new(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return dataset


def put_pixels(dataset: Dataset, pixels: np.ndarray, photometric: str = "MONOCHROME2") -> None:
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else photometric
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()


def stack(
    folder: Path,
    pixels: np.ndarray,
    depths: np.ndarray,
    *,
    orientation: tuple[float, ...] = OBLIQUE,
    drift: np.ndarray | None = None,
    shuffle: bool = True,
    series: str = "1.2.3",
    prefix: str = "s",
    **keys: float,
) -> Path:
    """A series of slices at `depths` mm along the normal, saved in an order that says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(3).permutation(len(pixels)) if shuffle else np.arange(len(pixels))
    for name, index in enumerate(order):
        position = np.array([-12.5, 7.25, 30.0]) + depths[index] * normal(orientation)
        if drift is not None:
            position = position + drift[index]
        dataset = slice_of(pixels[index], position, orientation=orientation, series=series, number=int(index), **keys)
        dataset.save_as(folder / f"{prefix}{name:03d}.dcm", enforce_file_format=True)
    return folder


def report(folder: Path, name: str = "report.dcm") -> None:
    """A structured report: no pixels."""
    dataset = new("1.2.840.10008.5.1.4.1.1.88.11")
    dataset.Modality, dataset.SeriesInstanceUID = "SR", "9.9"
    dataset.save_as(folder / name, enforce_file_format=True)


def enhanced(path: Path, pixels: np.ndarray, *, step: float, slope: float, intercept: float) -> Path:
    """One multi-frame object with a functional group per frame, frames stored from the far end."""
    dataset = new(EnhancedCTImageStorage)
    dataset.Modality, dataset.SeriesInstanceUID, dataset.NumberOfFrames = "CT", "1.2.4", len(pixels)
    put_pixels(dataset, pixels)
    shared, measures, plane, transform = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.5], 2.0
    plane.ImageOrientationPatient = list(OBLIQUE)
    transform.RescaleSlope, transform.RescaleIntercept = slope, intercept
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    shared.PixelValueTransformationSequence = Sequence([transform])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for index in range(len(pixels)):
        group, place = Dataset(), Dataset()
        at = np.array([1.0, 2.0, 3.0]) + (len(pixels) - 1 - index) * step * normal(OBLIQUE)
        place.ImagePositionPatient = [float(value) for value in at]
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    dataset.save_as(path, enforce_file_format=True)
    return path
