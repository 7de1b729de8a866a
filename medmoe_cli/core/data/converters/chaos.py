"""CHAOS: abdominal MR (T1 in and out of phase, T2) with four organs, and CT of other patients with the liver.

Layout: [Train_Sets/]MR/ID/{T1DUAL/{DICOM_anon/{InPhase,OutPhase},Ground},T2SPIR/{DICOM_anon,Ground}} and
CT/ID/{DICOM_anon,Ground}, Test_Sets alike without Ground. Masks are one PNG per slice: grey in MR, one bit in CT.
Both phases of T1 share the masks, whose names are those of the in-phase slices.
Reference: Zenodo 3431873; emrekavur/CHAOS-evaluation, CHAOSmetrics.py (order of slices, ranges of grey levels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, GeometryError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.release import parts_of
from medmoe_cli.core.data.converters.slice_masks import codes, read_slice_masks, require_order
from medmoe_cli.core.data.converters.source import ConvertOptions, LoadedCase, Skipped, SourceCase, Survey, renumber
from medmoe_cli.core.data.filenames import files_in
from medmoe_cli.core.data.grids import Grid, compare_grids
from medmoe_cli.core.imaging.formats import is_junk
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image

NAME = "chaos"
LEVELS_SETTLED = "grey levels beside the codes, taken for the organ in whose range they lie"
_MR_CLASSES = {"liver": 63, "kidney_right": 126, "kidney_left": 189, "spleen": 252}
_MR_RANGES = ((56, 70, 63), (111, 135, 126), (176, 200, 189), (241, 255, 252))
"""nnU-Net's ranges, which include those of the official evaluation."""
_CT_RANGES = ((1, 1, 1), (255, 255, 1))
_PARTS = {"t1": "T1-DUAL", "t1-in": "T1-DUAL", "t1-out": "T1-DUAL", "t2": "T2-SPIR", "ct": "CT"}
_CHANNELS = {"t1": ("T1 in-phase", "T1 out-phase"), "t1-in": ("T1 in-phase",), "t1-out": ("T1 out-phase",)}
_LICENCE = "CC BY-NC-SA 4.0"
_FEW = 20
"""Folders of one level that are searched: the release has two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """One patient's T1, T2 or CT.

    Attributes:
        kind: t1, t2 or ct.
        patient: mr_01 and ct_01 are different people.
        test: of Test_Sets.
        dicom: folders of DICOM slices (in-phase and out-phase for T1).
        ground: folder of masks; None in the test sets.
    """

    kind: str
    patient: str
    test: bool
    dicom: tuple[Path, ...]
    ground: Path | None


def looks_like(source: Path) -> bool:
    """A DICOM_anon folder in MR/ID/T1DUAL, MR/ID/T2SPIR or CT/ID."""
    return next(_acquisitions(source), None) is not None


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand one part of the release.

    Raises:
        ConfigError: several parts and no --subset, or parts that make no common dataset.
    """
    there = list(_acquisitions(source))
    present = {kind for one in there for kind in (("t1", "t1-in", "t1-out") if one.kind == "t1" else (one.kind,))}
    parts = _parts(options, present, source)
    rule = patient_rule(options.patient_regex)
    cases: list[SourceCase] = []
    skipped: list[Skipped] = []
    for part in parts:
        for one in there:
            if one.kind != part.partition("-")[0]:
                continue
            case = one.patient if part == "ct" else f"{one.patient}_{part}"
            if one.ground is None and not one.test:
                skipped.append(Skipped(what=case, why="a training patient without Ground"))
                continue
            ground = () if one.ground is None else (one.ground,)
            cases.append(
                SourceCase(
                    id=case,
                    patient=one.patient if rule is None else patient_of(case, rule),
                    split="Ts" if one.test else "Tr",
                    files=(*_wanted(one.dicom, part), *ground),
                    load=partial(load_case, one, part),
                )
            )
    values, value_map = renumber({"liver": 1} if parts == ["ct"] else _MR_CLASSES)
    modality = "CT" if parts == ["ct"] else "MR"
    single = "MR" if len(parts) > 1 else {"ct": "CT", "t2": "T2-SPIR"}.get(parts[0], "")
    tests = sum(case.split == "Ts" for case in cases)
    return Survey(
        format=NAME,
        channels=options.channels or _CHANNELS.get(parts[0] if len(parts) == 1 else "", (single,)),
        labels=values,
        value_map=value_map,
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or modality,
        information={"reference": "CHAOS, doi 10.5281/zenodo.3431873", "licence": _LICENCE},
        notes=(
            f"part {' and '.join(parts)}",
            "the pairing of masks and slices is compared with the reverse order by intensities, in each case",
            *((f"{tests} test cases without a label: their truth was never released",) if tests else ()),
        ),
    )


def load_case(one: Acquisition, part: str) -> LoadedCase:
    """Read the volumes of a part and the masks of its slices.

    Raises:
        MedMoEError: a slice is damaged, masks do not pair up, or the two phases lie on different grids.
    """
    volumes = [read_image(folder) for folder in _wanted(one.dicom, part)]
    if part == "t1":
        _require_same(volumes[0], volumes[1], "convert --subset t1-in and --subset t1-out apart")
    if one.ground is None:
        return LoadedCase(images=tuple(volumes), label=None)
    notes: list[str] = []
    # The masks of T1 are named after the in-phase slices, also where only the other phase is wanted.
    owner = volumes[0] if part != "t1-out" else read_image(one.dicom[0])
    grey = read_slice_masks(one.dicom[0], one.ground, owner, notes)
    if part == "t1-out":
        _require_same(owner, volumes[0], "leave the case out: its masks are those of the in-phase slices")
    label, changed = codes(grey, _CT_RANGES if one.kind == "ct" else _MR_RANGES, one.ground)
    if changed and one.kind != "ct":
        notes.append(LEVELS_SETTLED)
    require_order(owner, label, one.ground, notes)
    return LoadedCase(images=tuple(volumes), label=np.asarray(label), notes=tuple(notes))


def _wanted(dicom: Sequence[Path], part: str) -> tuple[Path, ...]:
    return {"t1-in": tuple(dicom[:1]), "t1-out": tuple(dicom[1:])}.get(part, tuple(dicom))


def _require_same(one: Image, other: Image, fix: str) -> None:
    verdict = compare_grids(Grid(geometry=one.geometry, header=one.header), _grid(other))
    if verdict.kind == "different":
        raise GeometryError("the two phases lie on different grids", where=other.header.path, why=str(verdict), fix=fix)


def _grid(image: Image) -> Grid:
    return Grid(geometry=image.geometry, header=image.header)


def _parts(options: ConvertOptions, present: set[str], source: Path) -> list[str]:
    """What to convert: one part, or several that have one MR channel each."""
    kinds = {part.partition("-")[0] for part in present}
    if not options.subset:
        if len(kinds) == 1:
            return list(kinds)
        raise ConfigError(
            "several datasets in one release",
            where=source,
            why=f"{', '.join(sorted(kinds))} differ in their channels and classes",
            fix="add --subset t1 (two channels), t2 or ct; t1-in and t1-out take one phase",
        )
    parts = parts_of(options, present, _PARTS, source)
    if len(parts) > 1 and not set(parts) <= {"t1-in", "t1-out", "t2"}:
        raise ConfigError(
            f"--subset {','.join(parts)} is no dataset",
            why="t1 has two channels, and CT shows the liver alone",
            fix="convert them one by one; only t1-in, t1-out and t2 go together",
        )
    return parts


def _acquisitions(source: Path) -> Iterator[Acquisition]:
    """Every acquisition, by modality and patient's number."""
    for modality in _modality_folders(source):
        test = any(part.lower().startswith("test") for part in (source.name, *modality.relative_to(source).parts))
        for folder in sorted((path for path in _folders(modality) if path.name.isdigit()), key=lambda p: int(p.name)):
            yield from _of_patient(folder, modality.name.lower(), test)


def _modality_folders(source: Path) -> Iterator[Path]:
    """Folders MR and CT: the source itself, or up to two levels below."""
    level = [source]
    for _ in range(3):
        yield from (path for path in level if path.name.upper() in ("MR", "CT"))
        outer = [path for path in level if path.name.upper() not in ("MR", "CT")]
        level = [inner for path in outer[:_FEW] for inner in _folders(path)]


def _of_patient(folder: Path, modality: str, test: bool) -> Iterator[Acquisition]:
    patient = f"{modality}_{int(folder.name):02d}"
    layouts: Mapping[str, tuple[str, tuple[str, ...]]] = (
        {"ct": ("", ("DICOM_anon",))}
        if modality == "ct"
        else {
            "t1": ("T1DUAL", ("DICOM_anon/InPhase", "DICOM_anon/OutPhase")),
            "t2": ("T2SPIR", ("DICOM_anon",)),
        }
    )
    for kind, (inner, dicom) in layouts.items():
        folders = tuple(folder / inner / name for name in dicom)
        ground = folder / inner / "Ground"
        if all(path.is_dir() for path in folders):
            masks = ground if any(files_in(ground)) else None
            yield Acquisition(kind=kind, patient=patient, test=test, dicom=folders, ground=masks)


def _folders(path: Path) -> list[Path]:
    return [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not is_junk(inner)] if path.is_dir() else []


FORMAT = Format(
    name=NAME,
    description="CHAOS DICOM and PNG masks; --subset t1 (in and out of phase), t1-in, t1-out, t2 or ct",
    modality="MR, CT",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="liver, kidneys and spleen (MR); liver (CT)",
    licence=_LICENCE,
    obtain="zenodo.org, record 3431873 (CHAOS_Train_Sets.zip, CHAOS_Test_Sets.zip)",
    particular=2,
    signs="MR/1/T1DUAL/DICOM_anon, MR/1/T2SPIR/DICOM_anon or CT/1/DICOM_anon",
    subsets=tuple(_PARTS),
)
