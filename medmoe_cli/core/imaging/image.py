"""An image as read from disk: its voxels, its place in space, and the header it came with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medmoe_cli.core.imaging.geometry import Geometry


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a writer needs to give a result its input's header back; opaque to everyone else.

    Attributes:
        format: nifti, nrrd, mha, png, jpg, tiff or dicom.
        path: the file or folder it was read from.
        native: the reader's own header object (nibabel's for NIfTI), or None.
        notes: what the reader found odd but could settle, one phrase each ('qform and sform differ ...').
    """

    format: str
    path: Path
    native: Any = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """Voxels (C, X, Y, Z) in the file's own voxel order, with their geometry and header."""

    data: NDArray[Any]
    geometry: Geometry
    header: Header

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[0])

    @property
    def is_2d(self) -> bool:
        """True for a single slice."""
        return self.geometry.shape[2] == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """A label map (X, Y, Z), uint8, uint16 or int32, in the file's own voxel order, with its geometry and header."""

    data: NDArray[Any]
    geometry: Geometry
    header: Header
