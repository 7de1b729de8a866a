"""Folders of DICOM series with segmentations, as a hospital's export and a viewer's annotation lie on a disk."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from tests.tools.dicoms import COLS, OBLIQUE, ROWS, normal, slice_of

DEPTH = 6


@dataclass(frozen=True)
class MadeSeries:
    """A series on disk: its slices in order of position, and its voxels (slices, rows, columns)."""

    folder: Path
    datasets: list[pydicom.Dataset]
    voxels: np.ndarray


def make_series(folder: Path, *, patient: str = "MRN-0042", study: str = "1.2.840.1", seed: int = 0) -> MadeSeries:
    """A CT series with the identity that a real one has; its files are named against their order."""
    folder.mkdir(parents=True, exist_ok=True)
    series = f"1.2.840.99.{zlib.crc32(f'{folder.name} {patient} {seed}'.encode())}"
    frame = generate_uid(entropy_srcs=[study])
    voxels = np.random.default_rng(seed).integers(-900, 900, (DEPTH, ROWS, COLS)).astype(np.int16)
    datasets = []
    for index in range(DEPTH):
        position = np.array([-12.5, 7.25, 30.0]) + 2.5 * index * normal(OBLIQUE)
        one = slice_of(voxels[index], position, series=series, number=index + 1)
        one.PatientID, one.StudyInstanceUID, one.FrameOfReferenceUID = patient, study, frame
        one.SeriesNumber, one.StudyID, one.AccessionNumber = 1, "1", ""
        one.StudyDate = one.StudyTime = one.PatientBirthDate = one.PatientSex = ""
        one.save_as(folder / f"i{DEPTH - index:03d}.dcm", enforce_file_format=True)
        datasets.append(one)
    return MadeSeries(folder=folder, datasets=datasets, voxels=voxels)


def make_seg(path: Path, series: MadeSeries, masks: dict[str, np.ndarray]) -> Path:
    """A binary DICOM segmentation with a segment per mask (slices, rows, columns), without empty slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    hd.seg.Segmentation(
        source_images=series.datasets,
        pixel_array=np.stack([mask.astype(np.uint8) for mask in masks.values()], axis=-1),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)
    return path


def box(where: tuple[slice, slice, slice]) -> np.ndarray:
    """A mask (slices, rows, columns)."""
    mask = np.zeros((DEPTH, ROWS, COLS), bool)
    mask[where] = True
    return mask
