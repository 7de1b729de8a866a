"""IMed-361M / IMIS-Bench: 2D pictures with one sparse mask per class.

Layout: dataset.json, image/ID.png (8-bit RGB, windowed), label/x___ID.(C, H, W, 1).npz (scipy CSR arrays of shape
(C, H*W); the real shape stands only in the file's name; channel i is label value i + 1), imask/ (not used).
Reference: uni-medical/IMIS-Bench, dataset/BTCV.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import classes_by_value, information, patient_of, patient_rule
from medmoe_cli.core.data.converters.files import as_grey
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.overlaps import Stack
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.data.converters.survey_pictures import survey_pictures
from medmoe_cli.core.data.filenames import files_in
from medmoe_cli.core.imaging.formats import ending_of
from medmoe_cli.core.imaging.read import read_image

NAME = "imed361m"
_SHAPE = re.compile(r"\((\d+), ?(\d+), ?(\d+), ?1\)\.npz$")
_PATIENT = r"(.*\d)_\d+"
"""ABD_001_100 is slice 100 of patient ABD_001; ISIC_0000193 is a patient of its own."""


def looks_like(source: Path) -> bool:
    """A folder label/ with sparse masks whose names carry their shape."""
    return any(_SHAPE.search(path.name) for path in files_in(source / "label"))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand one dataset of IMed-361M.

    Raises:
        DataError: dataset.json lacks what is needed.
    """
    path = source / "dataset.json"
    content = jsonio.read(path)
    if not isinstance(content, dict):
        raise DataError("not a JSON object", where=path, fix="restore the release's dataset.json")
    values = classes_by_value(content, path)
    labels, value_map = renumber(values)
    entries: list[tuple[Literal["Tr", "Ts"], Path, Path]] = []
    skipped: list[Skipped] = []
    used: set[Path] = set()
    splits: tuple[tuple[str, Literal["Tr", "Ts"]], ...] = (("training", "Tr"), ("test", "Ts"))
    for key, split in splits:
        for entry in content.get(key) or []:
            image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
            if not isinstance(image, str) or not isinstance(label, str):
                skipped.append(Skipped(what=f"{key}: {entry!r}", why="names no image and label", is_case=False))
                continue
            files = (source / image, source / label)
            used.update(files)
            missing = [str(file.relative_to(source)) for file in files if not file.is_file()]
            if missing:
                skipped.append(Skipped(what=files[0].stem, why=f"listed in {key}, but there is no {missing[0]}"))
            else:
                entries.append((split, *files))
    for file in files_in(source / "image"):
        if ending_of(file) and file not in used:
            skipped.append(Skipped(what=f"image/{file.name}", why="not listed in dataset.json: it has no label"))
    pictures = survey_pictures([image for _, image, _ in entries], workers=workers, reporter=reporter)
    rule = patient_rule(options.patient_regex or _PATIENT)
    overlap = options.overlap or "higher"
    modality = content.get("modality")
    named = ", ".join(map(str, modality.values())) if isinstance(modality, dict) else str(modality or "")
    colour = bool(pictures.colour)
    cases = tuple(
        SourceCase(
            id=image.stem,
            patient=patient_of(image.stem, rule),
            split=split,
            files=(image, label),
            load=partial(load_slice, image, label, colour=colour, overlap=overlap),
        )
        for split, image, label in entries
    )
    return Survey(
        format=NAME,
        channels=options.channels or (("R", "G", "B") if colour else ("grey",)),
        labels=labels,
        value_map=value_map,
        file_ending=pictures.ending,
        cases=cases,
        skipped=tuple(skipped),
        modality=options.modality or named,
        information=information(content),
        notes=(f"images are {pictures.note}",),
    )


def load_slice(path: Path, label: Path, *, colour: bool, overlap: Literal["higher", "lower"]) -> LoadedCase:
    """Read one picture and its masks.

    Raises:
        DataError: a file is damaged, or the mask's shape is not the picture's.
    """
    image = read_image(path)
    if not colour:
        image = replace(image, data=as_grey(image))
    masks_CHW = read_sparse_masks(label)
    columns, rows, _ = image.geometry.shape
    if masks_CHW.shape[1:] != (rows, columns):
        raise DataError(
            "mask of another size than its image",
            where=label,
            why=f"{masks_CHW.shape[2]}x{masks_CHW.shape[1]} against {columns}x{rows}",
            fix="leave the case out",
        )
    stack = Stack(image.geometry.shape, overlap=overlap)
    for index, mask_HW in enumerate(masks_CHW):
        stack.add(index + 1, mask_HW.T[:, :, None])
    return LoadedCase(images=(image,), label=stack.label, notes=stack.notes())


def read_sparse_masks(path: Path) -> NDArray[np.bool_]:
    """The masks (C, H, W) of a CSR file; its shape is read from the file's name alone.

    Raises:
        DataError: the name has no shape, or the content does not fit it.
    """
    match = _SHAPE.search(path.name)
    if match is None:
        raise DataError("no shape in the name", where=path, why="'x.(C, H, W, 1).npz' is expected", fix="rename it")
    channels, height, width = (int(part) for part in match.groups())
    indptr, indices, data, shape = _csr(path)
    size = height * width
    if tuple(shape.tolist()) != (channels, size) or len(indptr) != channels + 1:
        raise DataError(
            "mask that contradicts its name",
            where=path,
            why=f"its matrix is {'x'.join(map(str, shape.tolist()))}, its name says {channels}x{size}",
            fix="download the file again",
        )
    consistent = indptr[0] == 0 and (np.diff(indptr) >= 0).all() and indptr[-1] == len(indices) == len(data)
    if not consistent or (len(indices) and (indices.min() < 0 or indices.max() >= size)):
        raise DataError("damaged mask", where=path, why="its index arrays do not fit", fix="download the file again")
    masks = np.zeros((channels, size), bool)
    rows = np.repeat(np.arange(channels), np.diff(indptr))
    masks[rows, indices] = data != 0
    return masks.reshape(channels, height, width)


def _csr(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if bytes(archive["format"].item()) != b"csr":
                raise DataError("not a CSR matrix", where=path, fix="download the file again")
            indptr, indices = archive["indptr"].astype(np.int64), archive["indices"].astype(np.int64)
            return indptr, indices, archive["data"], archive["shape"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("damaged mask", where=path, why=str(error), fix="download the file again") from error


FORMAT = Format(
    name=NAME,
    description="IMed-361M / IMIS-Bench: 2D pictures with one sparse mask per class",
    modality="any, as 8-bit pictures",
    options=(*COMMON_OPTIONS, "overlap"),
    looks_like=looks_like,
    survey=survey,
    classes="from dataset.json",
    licence="unknown for IMed-361M; each source dataset has its own",
    obtain="https://github.com/uni-medical/IMIS-Bench (its folder dataset/ holds a sample)",
    signs="a folder label/ with sparse masks whose names carry their shape",
)
