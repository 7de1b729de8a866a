"""Which file endings are images, what a case is called, and which files are junk. Looks at names, never inside."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
NRRD = (".nrrd", ".seg.nrrd")
METAIMAGE = (".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")

ENDING_FORMATS: dict[str, str] = {
    **dict.fromkeys(NIFTI, "nifti"),
    **dict.fromkeys(NRRD, "nrrd"),
    **dict.fromkeys(METAIMAGE, "mha"),
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    **dict.fromkeys(TIFF, "tiff"),
    **dict.fromkeys(DICOM, "dicom"),
}
"""Every image ending that is read, lower case, and the format it stands for."""

_JUNK_NAMES = {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".ipynb_checkpoints"}


def is_junk(path: Path) -> bool:
    """True for what operating systems, archives and killed writers leave: `._x`, `.DS_Store`, `__MACOSX`, `.tmp-x`."""
    name = path.name.lower()
    return name.startswith(".") or name in _JUNK_NAMES or any(part.lower() == "__macosx" for part in path.parts)


def ending_of(path: Path) -> str:
    """The image ending of a file name, lower case; '' when it is not one ('scan.v2.NII.GZ' -> '.nii.gz')."""
    name = path.name.lower()
    return max((ending for ending in ENDING_FORMATS if name.endswith(ending)), key=len, default="")


def stem_of(path: Path) -> str:
    """The file name without its image ending (or without its last suffix when it has none): the case id."""
    ending = ending_of(path)
    return path.name[: -len(ending)] if ending else path.stem


def read_endings() -> str:
    """The endings that are read, for error messages."""
    return " ".join(sorted(set(ENDING_FORMATS) - {".seg.nrrd"}))
