"""dataset.json of the nnU-Net v2 layout, read leniently: every problem is a finding, not the first one.

Required keys: channel_names, labels, file_ending. Understood: numTraining, dataset (explicit file lists), modality,
dimensionality, class_prompts, patients, sources, source_values. Other keys are informational and left alone.
Reference: nnU-Net documentation/dataset_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.finding import Finding, error, warning
from medmoe_cli.core.data.laterality import words
from medmoe_cli.core.imaging.formats import ENDING_FORMATS, read_endings

FILE_NAME = "dataset.json"
_REQUIRED = ("channel_names", "labels", "file_ending")

_MODALITIES = {
    "CT": re.compile(r"ct|cta|cbct"),
    "MR": re.compile(r"mri?|t[12]\w*|flair|dwi|adc|swi|pd|pdw|bssfp|dce|cine"),
    "PT": re.compile(r"pet|pt"),
    "US": re.compile(r"us|ultrasound"),
    "X-ray": re.compile(r"xr|cxr|xray|radiograph"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedCase:
    """A case that dataset.json lists itself: files relative to the dataset's folder."""

    images: tuple[str, ...]
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFile:
    """The content of dataset.json that the project uses.

    Attributes:
        channels: channel names in order.
        labels: name to value, background excluded, in value order.
        file_ending: of images and labels.
        num_training: as declared; None when it is not.
        listed: explicit file lists by case; None when the folders decide.
        modality: as given, else what the channels' names tell; '' where neither does.
        class_prompts: name to text, the name itself where none is given.
        patients: case to patient.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    num_training: int | None = None
    listed: dict[str, ListedCase] | None = None
    modality: str = ""
    class_prompts: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)


def read_dataset_file(root: Path) -> tuple[DatasetFile | None, list[Finding]]:
    """Read `root`/dataset.json; the file is None when it cannot be used at all, and may come with errors when not."""
    path = root / FILE_NAME
    convert = f"medmoe convert {root} --format FORMAT --name NAME"
    if not path.is_file():
        return None, [error("json-missing", "no dataset.json", fix=convert, file=FILE_NAME)]
    try:
        content = jsonio.read(path)
    except DataError as problem:
        return None, [error("json-invalid", f"{problem.what}: {problem.why}", fix=problem.fix, file=FILE_NAME)]
    if not isinstance(content, dict):
        return None, [error("json-invalid", "not a JSON object", fix="see the nnU-Net v2 format", file=FILE_NAME)]
    if _is_old(content):
        message = "the format of nnU-Net v1 or the Medical Segmentation Decathlon"
        fix = f"medmoe convert {root} --format nnunet --name NAME (or --format msd)"
        return None, [error("json-format", message, fix=fix, file=FILE_NAME)]
    return _parse(content)


def _is_old(content: Mapping[str, Any]) -> bool:
    """The labels of v1 are keyed by value ('1': 'liver'), those of v2 by name."""
    labels = content.get("labels")
    by_value = isinstance(labels, dict) and bool(labels) and all(str(key).strip().isdigit() for key in labels)
    return by_value and "channel_names" not in content


def _parse(content: Mapping[str, Any]) -> tuple[DatasetFile | None, list[Finding]]:
    findings: list[Finding] = []
    for key in _REQUIRED:
        if key not in content:
            close = nearest(key, [name for name in content if name not in _REQUIRED])
            findings.append(_key(key, f"is missing{f', {close!r} looks like it' if close else ''}"))
    channels = _channels(content.get("channel_names", {"0": ""}), findings)
    labels = _labels(content.get("labels", {"": 1}), findings)
    ending = content.get("file_ending", ".nii.gz")
    if ending not in ENDING_FORMATS:
        findings.append(_key("file_ending", f"is {ending!r}, known endings are {read_endings()}"))
    number = content.get("numTraining")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
        findings.append(_key("numTraining", f"is {number!r}, a number of cases is expected"))
        number = None
    listed = _listed(content["dataset"], findings) if "dataset" in content else None
    usable = not any(finding.severity == "error" for finding in findings)
    # What is wrong from here on is an error as well, but the images can be looked at without it.
    prompts = _texts(content, "class_prompts", findings)
    for name in prompts:
        if name not in labels:
            close = nearest(name, labels)
            hint = f", did you mean {close!r}?" if close else ""
            findings.append(_key("class_prompts", f"names {name!r}, which is no label{hint}"))
    patients = _texts(content, "patients", findings)
    modality = modality_text(content.get("modality", ""))
    if modality is None:
        findings.append(_key("modality", f"is {content['modality']!r}, a text or one per channel is expected"))
    if content.get("dimensionality") not in (None, 2, 3, "2D", "3D"):
        findings.append(_key("dimensionality", f"is {content['dimensionality']!r}, 2 or 3 is expected"))
    if not usable:
        return None, findings
    return DatasetFile(
        channels=channels,
        labels=labels,
        file_ending=ending,
        num_training=number,
        listed=listed,
        modality=modality or channel_modality(channels),
        class_prompts={name: prompts.get(name, name) for name in labels},
        patients=patients,
    ), findings


def _channels(value: Any, findings: list[Finding]) -> tuple[str, ...]:
    if isinstance(value, list):
        value = {str(index): name for index, name in enumerate(value)}
    if not isinstance(value, dict) or not value:
        findings.append(_key("channel_names", f'is {value!r}, {{"0": "CT"}} is expected'))
        return ()
    if sorted(value) != sorted(str(index) for index in range(len(value))):
        findings.append(_key("channel_names", f"has the keys {some(value, 6)}, 0 to {len(value) - 1} are expected"))
        return ()
    names = [value[str(index)] for index in range(len(value))]
    if not all(isinstance(name, str) for name in names):
        findings.append(_key("channel_names", f"has names that are no text: {names}"))
        return ()
    return tuple(names)


def _labels(value: Any, findings: list[Finding]) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        findings.append(_key("labels", f'is {value!r}, {{"background": 0, "liver": 1}} is expected'))
        return {}
    regions = [name for name, number in value.items() if isinstance(number, list)]
    if regions:
        message = f"the label regions {some(regions)} (lists of values) are not supported"
        findings.append(error("labels-regions", message, fix="give each label one value", file=FILE_NAME))
    if "ignore" in value:
        findings.append(
            error(
                "labels-ignore",
                "the label 'ignore' is not supported",
                fix="remove it from labels and set its voxels to 0, or leave those cases out",
                file=FILE_NAME,
            )
        )
    wrong = [
        f"{name!r}: {number!r}"
        for name, number in value.items()
        if not isinstance(number, list) and (not isinstance(number, int) or isinstance(number, bool) or number < 0)
    ]
    if wrong:
        findings.append(_key("labels", f"has values that are no whole numbers: {some(wrong)}"))
    numbers = {name: number for name, number in value.items() if type(number) is int and number > 0}
    twice = sorted({number for number in numbers.values() if list(numbers.values()).count(number) > 1})
    if twice:
        findings.append(_key("labels", f"gives {some(map(str, twice))} to more than one name"))
    if not numbers and not regions and not wrong:
        findings.append(_key("labels", "has no foreground"))
    missing = sorted(set(range(1, max(numbers.values(), default=0))) - set(numbers.values()))
    if missing and not regions and not wrong:
        findings.append(
            warning(
                "labels-gap",
                f"label values are not consecutive: {some(map(str, missing), 6)} missing",
                fix="nnU-Net refuses such a dataset; medmoe convert ROOT --format nnunet --name NAME renumbers it",
                file=FILE_NAME,
            )
        )
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _listed(value: Any, findings: list[Finding]) -> dict[str, ListedCase]:
    if not isinstance(value, dict):
        findings.append(_key("dataset", 'is not an object {"case": {"images": [...], "label": "..."}}'))
        return {}
    cases: dict[str, ListedCase] = {}
    wrong: list[str] = []
    for case, entry in value.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        if isinstance(images, list) and images and all(isinstance(i, str) for i in images) and isinstance(label, str):
            cases[case] = ListedCase(images=tuple(images), label=label)
        else:
            wrong.append(case)
    if wrong:
        findings.append(_key("dataset", f"lacks images (a list) or label (a path) for {some(wrong)}"))
    return cases


def _texts(content: Mapping[str, Any], key: str, findings: list[Finding]) -> dict[str, str]:
    value = content.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        findings.append(_key(key, "is not an object of texts"))
        return {}
    return dict(value)


def _key(key: str, problem: str) -> Finding:
    return error("json-key", f"key '{key}' {problem}", fix=f"edit '{key}' in dataset.json", file=FILE_NAME)


def channel_modality(channels: Sequence[str]) -> str:
    """The modality that all channels' names agree on ('CT'; 'T1w' and 'FLAIR' are MR); '' when they do not."""
    told = {
        next((known for known, pattern in _MODALITIES.items() for word in words(name) if pattern.fullmatch(word)), "")
        for name in channels
    }
    return told.pop() if len(told) == 1 else ""


def modality_text(value: Any) -> str | None:
    """The modality as one text: 'CT', {'0': 'MR', '1': 'MR'} or ['CT', 'PT'], each one once; None for anything else."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    texts = list(dict.fromkeys(parts)) if all(isinstance(part, str) for part in parts) else None
    return None if texts is None else ", ".join(texts)
