"""NIfTI files as they should not be (and odd ones that are fine), made from a seed.

`REJECTED` maps a kind to what makes its bytes; `ACCEPTED` to an `Odd` with the voxels and affine it must read as.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (7, 6, 5)
OFFSETS = {
    "sizeof_hdr": ("i", 0),
    "dim": ("h", 40),
    "datatype": ("h", 70),
    "bitpix": ("h", 72),
    "pixdim": ("f", 76),
    "vox_offset": ("f", 108),
    "scl_slope": ("f", 112),
    "scl_inter": ("f", 116),
    "xyzt_units": ("B", 123),
    "qform_code": ("h", 252),
    "sform_code": ("h", 254),
    "quatern": ("f", 256),
    "qoffset": ("f", 268),
    "srow": ("f", 280),
    "magic": ("4s", 344),
}


def voxels(seed: int = 0, *, dtype: Any = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def affine(*, degrees: float = 0.0, spacing: tuple[float, float, float] = (1.0, 1.5, 3.0)) -> np.ndarray:
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    out = np.eye(4)
    out[:3, :3] = rotation * spacing
    out[:3, 3] = (-30, 12.5, 7)
    return out


def nifti(
    data: np.ndarray, place: np.ndarray | None = None, *, codes: tuple[int, int] = (1, 1), two: bool = False
) -> bytes:
    """A well-formed .nii: (qform, sform) codes, mm."""
    place = affine() if place is None else place
    image = (nib.Nifti2Image if two else nib.Nifti1Image)(data, place, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_qform(place, code=codes[0])
    image.set_sform(place, code=codes[1])
    return image.to_bytes()


def poke(raw: bytes, field: str, *values: Any, index: int = 0) -> bytes:
    """Overwrite items of a header field (NIfTI-1, little-endian)."""
    code, offset = OFFSETS[field]
    item = struct.calcsize("<" + code)
    out = bytearray(raw)
    for number, value in enumerate(values):
        struct.pack_into("<" + code, out, offset + (index + number) * item, value)
    return bytes(out)


def zipped(raw: bytes) -> bytes:
    return gzip.compress(raw, 6, mtime=0)


def base(dtype: Any = np.int16) -> bytes:
    return nifti(voxels(dtype=dtype))


def _float_with(value: float) -> bytes:
    data = voxels(dtype=np.float32)
    data[3, 2, 1] = value
    return nifti(data)


def _flip_bit(raw: bytes, position: int) -> bytes:
    out = bytearray(raw)
    out[position] ^= 0x10
    return bytes(out)


def _srow(matrix: np.ndarray) -> bytes:
    return poke(base(), "srow", *matrix[:3].ravel().tolist())


def _sheared(degrees: float) -> np.ndarray:
    out = affine(spacing=(1.0, 1.0, 1.0))
    lean = np.radians(degrees)
    out[:3, 2] = (np.sin(lean), 0, np.cos(lean))
    return out


def _sheared_file(degrees: float, codes: tuple[int, int] = (0, 1)) -> bytes:
    raw = nifti(voxels(), affine(spacing=(1.0, 1.0, 1.0)), codes=codes)
    return poke(raw, "srow", *_sheared(degrees)[:3].ravel().tolist())


def _mirrored() -> bytes:
    other = affine() @ np.diag([-1, 1, 1, 1])
    return _srow(other)


def _turned() -> bytes:
    other = affine() @ np.diag([-1, -1, 1, 1])
    return _srow(other)


NAN, INF = float("nan"), float("inf")

# name -> (file name, bytes). The file name's ending is part of the fault for some.
REJECTED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("a.nii", lambda: b""),
    "empty gz": ("a.nii.gz", lambda: b""),
    "text": ("a.nii", lambda: b"I am not an image, I am a letter to the editor.\n" * 20),
    "text gz": ("a.nii.gz", lambda: b"I am not an image\n"),
    "zipped text": ("a.nii.gz", lambda: zipped(b"case,label\n1,2\n" * 50)),
    "png": ("a.nii.gz", lambda: b"\x89PNG\r\n\x1a\n" + bytes(400)),
    "zeros": ("a.nii", lambda: bytes(1000)),
    "four bytes": ("a.nii", lambda: base()[:4]),
    "half a header": ("a.nii", lambda: base()[:100]),
    "header alone": ("a.nii", lambda: base()[:348]),
    "header and flag alone": ("a.nii", lambda: base()[:352]),
    "half the voxels": ("a.nii", lambda: base()[: 352 + 210]),
    "a byte short": ("a.nii", lambda: base()[:-1]),
    "half the gz": ("a.nii.gz", lambda: zipped(base())[: len(zipped(base())) // 2]),
    "gz without trailer": ("a.nii.gz", lambda: zipped(base())[:-8]),
    "gz trailer cut": ("a.nii.gz", lambda: zipped(base())[:-3]),
    "gz header alone": ("a.nii.gz", lambda: zipped(base())[:10]),
    "gz checksum": ("a.nii.gz", lambda: _flip_bit(zipped(base()), -8)),
    "gz length": ("a.nii.gz", lambda: _flip_bit(zipped(base()), -3)),
    "gz payload": ("a.nii.gz", lambda: _flip_bit(zipped(base()), len(zipped(base())) // 2)),
    "gz of half the voxels": ("a.nii.gz", lambda: zipped(base()[:-200])),
    "trailing byte": ("a.nii", lambda: base() + b"\0"),
    "trailing byte in gz": ("a.nii.gz", lambda: zipped(base() + b"\0")),
    "garbage after gz": ("a.nii.gz", lambda: zipped(base()) + b"garbage"),
    "second gz member": ("a.nii.gz", lambda: zipped(base()) + zipped(b"more")),
    "gz named nii": ("a.nii", lambda: zipped(base())),
    "nii named gz": ("a.nii.gz", base),
    "sizeof_hdr": ("a.nii", lambda: poke(base(), "sizeof_hdr", 349)),
    "magic": ("a.nii", lambda: poke(base(), "magic", b"abc\0")),
    "pair": ("a.nii", lambda: poke(base(), "magic", b"ni1\0")),
    "no axes": ("a.nii", lambda: poke(base(), "dim", 0)),
    "one axis": ("a.nii", lambda: poke(base(), "dim", 1)),
    "eight axes": ("a.nii", lambda: poke(base(), "dim", 8)),
    "negative axes": ("a.nii", lambda: poke(base(), "dim", -3)),
    "axis of 0": ("a.nii", lambda: poke(base(), "dim", 0, index=2)),
    "axis of -6": ("a.nii", lambda: poke(base(), "dim", -6, index=2)),
    "two more axes": ("a.nii", lambda: nifti(voxels(shape=(4, 4, 4, 2, 3)))),
    "huge": ("a.nii", lambda: poke(base(), "dim", 3, 32767, 32767, 32767)),
    "huge gz": ("a.nii.gz", lambda: zipped(poke(base(), "dim", 3, 32767, 32767, 32767))),
    "huge 7D gz": ("a.nii.gz", lambda: zipped(poke(base(), "dim", 7, *[32767] * 7))),
    "one axis longer": ("a.nii", lambda: poke(base(), "dim", 8, index=1)),
    "one axis shorter": ("a.nii", lambda: poke(base(), "dim", 6, index=1)),
    "datatype 0": ("a.nii", lambda: poke(base(), "datatype", 0)),
    "datatype binary": ("a.nii", lambda: poke(poke(base(), "datatype", 1), "bitpix", 1)),
    "datatype complex": ("a.nii", lambda: poke(poke(base(), "datatype", 32), "bitpix", 64)),
    "datatype float128": ("a.nii", lambda: poke(poke(base(), "datatype", 1536), "bitpix", 128)),
    "bitpix": ("a.nii", lambda: poke(base(), "bitpix", 8)),
    "wider datatype": ("a.nii", lambda: poke(poke(base(), "datatype", 16), "bitpix", 32)),
    "pixdim nan": ("a.nii", lambda: poke(base(), "pixdim", NAN, index=2)),
    "pixdim inf": ("a.nii", lambda: poke(base(), "pixdim", INF, index=2)),
    "pixdim 0": ("a.nii", lambda: poke(base(), "pixdim", 0.0, index=3)),
    "pixdim negative": ("a.nii", lambda: poke(base(), "pixdim", -1.0, index=1)),
    "qfac": ("a.nii", lambda: poke(base(), "pixdim", 0.5)),
    "qfac nan": ("a.nii", lambda: poke(base(), "pixdim", NAN)),
    "sform nan": ("a.nii", lambda: poke(base(), "srow", NAN, index=5)),
    "sform inf": ("a.nii", lambda: poke(base(), "srow", INF, index=3)),
    "sform zero column": ("a.nii", lambda: _srow(affine() @ np.diag([1, 0, 1, 1]))),
    "sform all zero": ("a.nii", lambda: poke(base(), "srow", *[0.0] * 12)),
    "sform two equal columns": ("a.nii", lambda: _srow(affine()[:, [0, 0, 2, 3]])),
    "sform sheared": ("a.nii", lambda: _sheared_file(20)),
    "sform against pixdim": ("a.nii", lambda: _srow(affine(spacing=(2.0, 1.5, 3.0)))),
    "sform mirrored": ("a.nii", _mirrored),
    "sform turned": ("a.nii", _turned),
    "qform nan": ("a.nii", lambda: poke(base(), "quatern", NAN)),
    "qform offset inf": ("a.nii", lambda: poke(base(), "qoffset", INF, index=1)),
    "qform too long": ("a.nii", lambda: poke(base(), "quatern", 1.5, 1.0, 0.2)),
    "qform_code": ("a.nii", lambda: poke(base(), "qform_code", 99)),
    "sform_code": ("a.nii", lambda: poke(base(), "sform_code", -1)),
    "offset 0": ("a.nii", lambda: poke(base(), "vox_offset", 0.0)),
    "offset in the header": ("a.nii", lambda: poke(base(), "vox_offset", 100.0)),
    "offset nan": ("a.nii", lambda: poke(base(), "vox_offset", NAN)),
    "offset half": ("a.nii", lambda: poke(base(), "vox_offset", 352.5)),
    "offset behind the end": ("a.nii", lambda: poke(base(), "vox_offset", 1e6)),
    "offset huge gz": ("a.nii.gz", lambda: zipped(poke(base(), "vox_offset", 3e9))),
    "offset negative": ("a.nii", lambda: poke(base(), "vox_offset", -352.0)),
    "voxel nan": ("a.nii", lambda: _float_with(NAN)),
    "voxel inf": ("a.nii.gz", lambda: zipped(_float_with(-INF))),
    "slope inf": ("a.nii", lambda: poke(base(), "scl_slope", INF, 0.0)),
    "inter nan": ("a.nii", lambda: poke(base(), "scl_slope", 2.0, NAN)),
    "scaled beyond float": ("a.nii", lambda: poke(base(), "scl_slope", 3e38, 0.0)),
    "metres that are mm": ("a.nii", lambda: poke(nifti(voxels(shape=(40, 40, 30))), "xyzt_units", 1)),
    "microscopic": ("a.nii", lambda: nifti(voxels(), np.diag([1e-9, 1e-9, 1e-9, 1]))),
    "nifti2 half a header": ("a.nii", lambda: nifti(voxels(), two=True)[:400]),
    "nifti2 short": ("a.nii", lambda: nifti(voxels(), two=True)[:-2]),
    "colour with time": ("a.nii", lambda: poke(_colour(3), "dim", 4, 7, 6, 1, 5)),
}


@dataclass(frozen=True)
class Odd:
    """A file that is odd and fine: what it must read as (voxels with channels first)."""

    name: str
    raw: bytes
    data: np.ndarray
    affine: np.ndarray
    note: str = ""


def _colour(channels: int) -> bytes:
    names = "RGBA"[:channels]
    data = np.zeros(SHAPE, np.dtype([(name, "u1") for name in names]))
    for index, name in enumerate(names):
        data[name] = voxels(index, dtype=np.uint8)
    return nifti(data)


def _big_endian() -> bytes:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(voxels().astype(">i2"), affine(), header)
    return image.to_bytes()


def _with_extension() -> bytes:
    image = nib.Nifti1Image(voxels(), affine())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"patient: somebody" * 9))
    return image.to_bytes()


def _template_sform() -> bytes:
    raw = nifti(voxels(), codes=(1, 4))
    return poke(raw, "srow", *_moved()[:3].ravel().tolist())


def _moved() -> np.ndarray:
    out = affine(degrees=8)
    out[:3, 3] += 20
    return out


def accepted() -> list[Odd]:
    """Odd files that must be read right."""
    plain, one = affine(), voxels()[None]
    flat = voxels(shape=(9, 8))
    flat_raw = poke(nifti(flat[..., None]), "dim", 2, 9, 8, 0, 0)
    colours = np.stack([voxels(index, dtype=np.uint8) for index in range(3)])
    four, five = voxels(shape=(*SHAPE, 3)), voxels(shape=(*SHAPE, 1, 3))
    centred = np.diag([-1.0, 1.5, 3.0, 1.0])
    centred[:3, 3] = -(np.array(SHAPE) - 1) / 2 * [-1.0, 1.5, 3.0]
    turned = affine(degrees=25)
    leaning = _sheared(1.5)
    scaled = (voxels() * 0.5 - 100)[None]
    half_turn = affine() @ np.diag([-1, -1, 1, 1])
    return [
        Odd("a.nii", base(), one, plain),
        Odd("a.nii.gz", zipped(base()), one, plain),
        Odd("A.NII.GZ", zipped(base()), one, plain),
        Odd("float.nii", nifti(voxels(dtype=np.float32)), one.astype(np.float32), plain),
        Odd("double.nii.gz", zipped(nifti(voxels(dtype=np.float64))), one.astype(np.float64), plain),
        Odd("byte.nii", nifti(voxels(dtype=np.uint8)), one.astype(np.uint8), plain),
        Odd("signed byte.nii", nifti(voxels(dtype=np.uint8).astype(np.int8)), one.astype(np.int8), plain),
        Odd("long.nii", nifti(voxels(dtype=np.int64)), one.astype(np.int64), plain),
        Odd("big endian.nii", _big_endian(), one, plain),
        Odd("nifti2.nii.gz", zipped(nifti(voxels(), two=True)), one, plain),
        Odd("flat.nii", flat_raw, flat[None, ..., None], plain),
        Odd("flat, no z size.nii", poke(flat_raw, "pixdim", 0.0, index=3), flat[None, ..., None], plain),
        Odd("four.nii", nifti(four), np.moveaxis(four, -1, 0), plain),
        Odd("five.nii", nifti(five), np.moveaxis(five[..., 0, :], -1, 0), plain),
        Odd("trailing ones.nii", nifti(voxels(shape=(*SHAPE, 1))), one, plain),
        Odd("rgb.nii", _colour(3), colours, plain),
        Odd("rgba.nii.gz", zipped(_colour(4)), colours, plain),
        Odd("scaled.nii", poke(base(), "scl_slope", 0.5, -100.0), scaled.astype(np.float32), plain),
        Odd("slope 0.nii", poke(base(), "scl_slope", 0.0, 5.0), one, plain),
        Odd("slope nan.nii", poke(base(), "scl_slope", NAN, NAN), one, plain),
        Odd("qform.nii", nifti(voxels(), turned, codes=(1, 0)), one, turned),
        Odd("sform.nii", nifti(voxels(), turned, codes=(0, 2)), one, turned),
        Odd("half turn.nii", nifti(voxels(), half_turn, codes=(1, 0)), one, half_turn),
        Odd("neither.nii", nifti(voxels(), codes=(0, 0)), one, centred, "no orientation"),
        Odd("rounded cosines.nii", _sheared_file(1.5), one, leaning),
        Odd("template.nii", _template_sform(), one, _moved(), "sform and qform differ"),
        Odd("qfac 0.nii", poke(nifti(voxels(), turned, codes=(1, 0)), "pixdim", 0.0), one, turned),
        Odd("extension.nii.gz", zipped(_with_extension()), one, plain),
        Odd("two members.nii.gz", zipped(base()[:400]) + zipped(base()[400:]), one, plain),
        Odd("microns.nii", poke(base(), "xyzt_units", 3), one, np.diag([1e-3, 1e-3, 1e-3, 1]) @ plain),
        Odd("metres.nii", poke(_in_metres(), "xyzt_units", 1), one, plain),
        Odd("unknown unit.nii", poke(base(), "xyzt_units", 6), one, plain, "unknown spatial unit"),
    ]


def _in_metres() -> bytes:
    return nifti(voxels(), np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine())
