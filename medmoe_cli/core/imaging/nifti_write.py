"""NIfTI files out: the input's header with the new voxels, or a new header from a geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.gate_space import check_space
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Image, Labels

_TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
_SCANNER, _MM = 1, 2
_MAX_NIFTI1_AXIS = 32767
# nibabel's classes carry no types.
_nib: Any = nib


def write_nifti(path: Path, data: NDArray[Any], like: Image | Labels, *, labels: bool) -> None:
    """Write (C, X, Y, Z) to `path`; the caller makes it atomic and verifies it.

    Args:
        path: .nii or .nii.gz.
        data: C = 1 gives a 3D file (2D where the input was 2D), more a 4D one with channels last.
        like: where it lies; a NIfTI input's header is kept but for type, scaling and text.
        labels: also clears the display range and intent, which are the image's.
    """
    header = _header(like)
    header.extensions = type(header.extensions)()
    for field in _TEXT_FIELDS:
        if field in header:
            header[field] = b""
    if labels:
        header["cal_min"] = header["cal_max"] = 0
    if labels or int(header["dim"][0]) != 3 or len(data) != 1:
        header.set_intent("none")
    header["scl_slope"], header["scl_inter"] = 1, 0
    flat_input = int(header["dim"][0]) == 2 and len(data) == 1
    voxels = data[0, ..., 0] if flat_input else data[0] if len(data) == 1 else np.moveaxis(data, 0, -1)
    codes = header["qform_code"].copy(), header["sform_code"].copy()
    header.set_data_dtype(data.dtype)
    pixdim = header["pixdim"].copy()
    header.set_data_shape(voxels.shape)
    header["pixdim"] = pixdim
    image_class = _nib.Nifti2Image if isinstance(header, _nib.Nifti2Header) else _nib.Nifti1Image
    image = image_class(voxels, None, header)
    image.header["qform_code"], image.header["sform_code"] = codes
    image.to_filename(path)


def lost_fields(written: Image, like: Image | Labels) -> list[str]:
    """Names of the header fields of a NIfTI input that the written file does not have; empty when all is kept."""
    native = like.header.native
    if native is None or not _keeps_header(like):
        return []
    back = written.header.native
    lost = [name for name in ("qform_code", "sform_code") if int(back[name]) != int(native[name])]
    if int(back["xyzt_units"]) & 7 != int(native["xyzt_units"]) & 7:
        lost.append("units")
    for name in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
        if not np.array_equal(back[name], native[name], equal_nan=True):
            lost.append(name)
    for name in ("quatern_b", "quatern_c", "quatern_d"):
        if not np.array_equal(back[name], native[name], equal_nan=True):
            lost.append(name)
    if not np.array_equal(back["pixdim"][:4], native["pixdim"][:4]):
        lost.append("pixdim")
    return lost


def _keeps_header(like: Image | Labels) -> bool:
    """True when the image still lies where its header says (it was not resampled or moved)."""
    native = like.header.native
    if native is None:
        return False
    shape = [int(length) for length in native["dim"][1:4]]
    count = int(native["dim"][0])
    shape = [*shape[: min(count, 3)], 1][:3]
    if tuple(shape) != like.geometry.shape:
        return False
    space = check_space(native.copy(), like.geometry.shape)
    return np.array_equal(space.affine, like.geometry.affine)


def _header(like: Image | Labels) -> Any:
    """A copy of the input's header, or a new one in mm from its geometry."""
    if _keeps_header(like):
        return like.header.native.copy()
    too_long = max(like.geometry.shape) > _MAX_NIFTI1_AXIS
    header = _nib.Nifti2Header() if too_long else _nib.Nifti1Header()
    _place(header, like.geometry)
    return header


def _place(header: Any, geometry: Geometry) -> None:
    """Sform as it is, and the qform where a rotation can say the same."""
    header.set_data_shape(geometry.shape)
    header.set_xyzt_units("mm")
    header.set_sform(geometry.affine, code=_SCANNER)
    unit = geometry.affine[:3, :3] / geometry.spacing_mm
    orthogonal = bool(np.allclose(unit.T @ unit, np.eye(3), atol=1e-5))
    header.set_qform(geometry.affine, code=_SCANNER if orthogonal else 0, strip_shears=True)
    header["pixdim"][1:4] = geometry.spacing_mm
