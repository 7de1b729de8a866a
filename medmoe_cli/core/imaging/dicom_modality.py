"""The Modality that a DICOM file or folder says, without its voxels."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError


def dicom_modality(path: Path) -> str:
    """'CT', 'MR', 'CR', ... of the first file that says one; '' when none does."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            continue
        try:
            found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", "")
        except (InvalidDicomError, OSError):
            continue
        if found:
            return str(found)
    return ""
