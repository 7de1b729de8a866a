"""Class names inside a NIfTI label map: the Caret label table that TotalSegmentator and Connectome Workbench write."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

_HEADER = 348
_OFFSET = 108
_MAX_BYTES = 1 << 20
_LABEL = re.compile(rb'<Label\s[^>]*?Key="(\d{1,6})"[^>]*>\s*<!\[CDATA\[([^\]<>]{1,100})\]\]>')


def label_table(path: Path) -> dict[int, str]:
    """Value to name; empty where the file has no table or cannot be read (reading its voxels says why)."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                return {}
            order = "<" if header[:4] == struct.pack("<i", _HEADER) else ">"
            (offset,) = struct.unpack_from(f"{order}f", header, _OFFSET)
            if not _HEADER < offset <= _MAX_BYTES:
                return {}
            block = file.read(int(offset) - _HEADER)
    except (OSError, EOFError, zlib.error):
        return {}
    if b"<LabelTable>" not in block:
        return {}
    return {int(key): name.decode("utf-8", "replace").strip() for key, name in _LABEL.findall(block) if int(key) > 0}
