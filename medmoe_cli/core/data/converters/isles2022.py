"""ISLES 2022: stroke MR with DWI, ADC and FLAIR, in either of its two layouts.

Zenodo: sub-strokecase0001/ses-0001/{dwi,anat}/..., derivatives/...; challenge: rawdata/ and derivatives/, flat, with a
lower-case `flair`. Files are known by their names wherever they lie. DWI is what was annotated; FLAIR has a grid of its
own and is resampled to DWI's. Reference: ezequieldlrosa/isles22, README.md.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Literal

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.classes import patient_of, patient_rule
from medmoe_cli.core.data.converters.common_grid import chosen_channels, load_contrasts
from medmoe_cli.core.data.converters.format import COMMON_OPTIONS, Format
from medmoe_cli.core.data.converters.one_of import OneOf
from medmoe_cli.core.data.converters.source import ConvertOptions, Skipped, SourceCase, Survey
from medmoe_cli.core.data.filenames import files_below

NAME = "isles2022"
_FILE = re.compile(r"(sub-strokecase(\d{4})_ses-\d{4})_(dwi|adc|flair|msk)\.nii(?:\.gz)?", re.IGNORECASE)
_CHANNELS = ("DWI", "ADC", "FLAIR")
_PATIENT = r"(sub-strokecase\d{4})_ses-\d{4}"
_LAST_LABELLED = 250
_LICENCE = "CC BY-SA 4.0"


def looks_like(source: Path) -> bool:
    """A mask or DWI of the name that ISLES gives it."""
    return any(_FILE.fullmatch(path.name) for path in source.rglob("sub-strokecase*"))


def survey(source: Path, options: ConvertOptions, *, workers: int | None, reporter: Reporter) -> Survey:
    """Understand the release.

    Raises:
        ConfigError: --subset names no contrast.
        DataError: two files claim to be one contrast of a case.
    """
    chosen = chosen_channels(options, _CHANNELS, _CHANNELS)
    found: OneOf[tuple[str, str]] = OneOf()
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is not None:
            found.add((match[1].lower(), match[3].upper()), path)
    found.require_single()
    rule = patient_rule(options.patient_regex or _PATIENT)
    cases: list[SourceCase] = []
    skipped: list[Skipped] = []
    for case in sorted({case for case, _ in found.files}):
        files = {kind: path for (name, kind), path in found.files.items() if name == case}
        missing = [kind for kind in dict.fromkeys(("DWI", *chosen)) if kind not in files]
        label = files.get("MSK")
        number = int(case[len("sub-strokecase") :][:4])
        if missing:
            skipped.append(Skipped(what=case, why=f"it has no {' and no '.join(missing)}"))
            continue
        if label is None and number <= _LAST_LABELLED:
            skipped.append(Skipped(what=case, why="it has no mask below derivatives/"))
            continue
        split: Literal["Tr", "Ts"] = "Ts" if label is None else "Tr"
        contrasts = tuple((kind, files[kind]) for kind in chosen)
        inputs = dict.fromkeys((files["DWI"], *(path for _, path in contrasts), *([label] if label else [])))
        load = partial(load_contrasts, files["DWI"], contrasts, label, name="DWI")
        cases.append(SourceCase(id=case, patient=patient_of(case, rule), split=split, files=tuple(inputs), load=load))
    labelled = sum(case.split == "Tr" for case in cases)
    notes = [f"{labelled} of the release's {_LAST_LABELLED} labelled cases; it has no official split"]
    if len(cases) > labelled:
        notes.append(f"{len(cases) - labelled} cases of the hidden test set have no mask: imagesTs")
    return Survey(
        format=NAME,
        channels=options.channels or chosen,
        labels={"infarct": 1},
        value_map={1: 1},
        file_ending=".nii.gz",
        cases=tuple(cases),
        skipped=tuple(skipped),
        modality=options.modality or "MR",
        information={"reference": "ISLES 2022, doi 10.5281/zenodo.7960856", "licence": _LICENCE},
        class_prompts={"infarct": "acute ischemic stroke lesion"},
        notes=tuple(notes),
    )


FORMAT = Format(
    name=NAME,
    description="ISLES 2022 stroke MR (both layouts); FLAIR is resampled to DWI, --subset DWI,ADC leaves it out",
    modality="MR: DWI, ADC, FLAIR",
    options=(*COMMON_OPTIONS, "subset"),
    looks_like=looks_like,
    survey=survey,
    classes="infarct",
    licence=_LICENCE,
    obtain="zenodo.org, record 7960856, or isles22.grand-challenge.org",
    particular=2,
    signs="files such as sub-strokecase0001_ses-0001_dwi.nii.gz",
    subsets=_CHANNELS,
)
