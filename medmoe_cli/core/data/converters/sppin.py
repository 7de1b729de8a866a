"""SPPIN 2023: MR of children with neuroblastoma, several scans of a patient, four contrasts of which one is annotated.

Layout: PT_06/20180628/PT_06_{T1_gd,T2,DWI_b0,DWI_b100}_20180628.nii with the mask PT_06_NB_20180628.nii.gz on the grid
of T1_gd. The names come from a single description of the release, so that every other name is reported. The contrasts
lie on different grids and are not registered: T1_gd alone is taken unless --subset names more.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.common_grid import chosen_channels, load_contrasts
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_below
from medmoe_cli.core.imaging.formats import NIFTI, ending_of

NAME = "sppin"
_FILE = re.compile(r"(PT_(\d+))_(T1_?gd|T2|(?:DWI_)?b0|(?:DWI_)?b100|NB)_(\d{8})\.nii(?:\.gz)?", re.IGNORECASE)
_CHANNELS = ("T1_gd", "T2", "DWI_b0", "DWI_b100")
_KINDS = {"t1gd": "T1_gd", "t2": "T2", "b0": "DWI_b0", "dwib0": "DWI_b0", "b100": "DWI_b100", "dwib100": "DWI_b100"}
_PATIENT = r"(PT_\d+)_\d{8}"
_WITHDRAWN = (20, 46)
_LICENCE = "signed SPPIN data agreement; no redistribution"


def looks_like(source: Path) -> bool:
    """A mask of the name that SPPIN gives it."""
    return any((match := _FILE.fullmatch(path.name)) and match[3].upper() == "NB" for path in source.rglob("PT_*"))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the training set.

    Raises:
        ConfigError: --subset names no contrast.
        DataError: two files claim to be one contrast of a scan.
    """
    chosen = chosen_channels(options, _CHANNELS, _CHANNELS[:1])
    found: OneOf[tuple[str, str]] = OneOf()
    skipped: list[Skipped] = []
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        name = str(path.relative_to(source))
        if match is None:
            if ending_of(path) in NIFTI:
                skipped.append(
                    Skipped(what=name, why="a file of another name than SPPIN's PT_NN_CONTRAST_DATE", is_case=False)
                )
        elif int(match[2]) in _WITHDRAWN:
            skipped.append(
                Skipped(what=name, why="the authors withdrew this patient's files (August 2023)", is_case=False)
            )
        else:
            kind = match[3].lower().replace("_", "")
            found.add((f"{match[1].upper()}_{match[4]}", _KINDS.get(kind, "NB")), path)
    found.require_single()
    rule = patient_rule(options.patient_regex or _PATIENT)
    cases: list[SourceCase] = []
    for case in sorted({case for case, _ in found.files}):
        files = {kind: path for (name, kind), path in found.files.items() if name == case}
        missing = [kind for kind in dict.fromkeys(("NB", "T1_gd", *chosen)) if kind not in files]
        if missing:
            skipped.append(Skipped(what=case, why=f"it has no {' and no '.join(missing)}"))
            continue
        contrasts = tuple((kind, files[kind]) for kind in chosen)
        inputs = dict.fromkeys((files["T1_gd"], *(path for _, path in contrasts), files["NB"]))
        load = partial(load_contrasts, files["T1_gd"], contrasts, files["NB"], name="T1_gd")
        cases.append(SourceCase(id=case, patient=patient_of(case, rule), split="Tr", files=tuple(inputs), load=load))
    return Survey(
        format=NAME,
        channels=options.channels or chosen,
        labels={"neuroblastoma": 1},
        value_map={1: 1},
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "MR",
        information={"reference": "SPPIN 2023, arXiv 2505.00369", "licence": _LICENCE},
        notes=_notes(cases, chosen),
    )


def _notes(cases: list[SourceCase], chosen: tuple[str, ...]) -> tuple[str, ...]:
    patients = len({case.patient for case in cases})
    counted = f"{len(cases)} scans of {patients} patients; published counts of the training set are 78 to 80 scans"
    if chosen == _CHANNELS[:1]:
        return (
            counted,
            f"T1_gd alone, which was annotated; --subset {','.join(_CHANNELS)} adds what is not registered",
        )
    return (counted, "contrasts are placed by their headers: the release did not register them, look at the result")


FORMAT = Format(
    name=NAME,
    description="SPPIN 2023 neuroblastoma MR: T1_gd, which was annotated; --subset T1_gd,T2 adds contrasts by header",
    modality="MR: T1_gd, T2, DWI b0 and b100",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="neuroblastoma",
    licence=_LICENCE,
    obtain="zenodo.org, records 7845214 and 7848306, with the signed agreement",
    particular=2,
    signs="masks such as PT_06_NB_20180628.nii.gz",
    subsets=_CHANNELS,
)
