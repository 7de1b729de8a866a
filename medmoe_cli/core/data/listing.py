"""Which files make which case: names only, no voxel is read.

Images are `CASE_0000.ext` (one file per channel, colour pictures in one file), labels `CASE.ext`; dataset.json may
list the files of training cases itself instead.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.dataset_file import DatasetFile
from medmoe_cli.core.data.filenames import PICTURE_ENDINGS, files_in, some, split_channel
from medmoe_cli.core.data.finding import Finding, error, warning
from medmoe_cli.core.imaging.formats import ending_of, stem_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Cases, and what is wrong with the files' names.

    Attributes:
        training: complete cases of imagesTr.
        test: complete cases of imagesTs.
        damaged_training: cases of imagesTr that lack a file, with those they have (perhaps only a label).
        damaged_test: the same of imagesTs.
        findings: what is wrong.
    """

    training: tuple[Case, ...]
    test: tuple[Case, ...]
    damaged_training: tuple[Case, ...]
    damaged_test: tuple[Case, ...]
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> frozenset[str]:
        """Names of the cases that exist but lack a file."""
        return frozenset(case.id for case in (*self.damaged_training, *self.damaged_test))


def list_cases(root: Path, file: DatasetFile) -> Listing:
    """Find the cases of a dataset by its file names."""
    findings: list[Finding] = []
    if file.listed is not None:
        training, damaged = _explicit(root, file, findings)
    else:
        training, damaged = _folder(root, file, "Tr", findings)
    test, damaged_test = _folder(root, file, "Ts", findings)
    count = len(training) + sum(bool(case.images) for case in damaged)
    if count == 0 and not file.listed:
        findings.append(_no_cases(root, file))
    findings += _clashes(training, test)
    if file.num_training is not None and file.num_training != count:
        findings.append(
            warning(
                "num-training",
                f"numTraining says {file.num_training}, there are {count} training cases",
                fix=f'set "numTraining": {count} in dataset.json',
                file="dataset.json",
            )
        )
    known = {case.id for case in (*training, *damaged, *test, *damaged_test)}
    strangers = sorted(set(file.patients) - known)
    if strangers:
        findings.append(
            warning(
                "patients-unknown",
                f"'patients' names cases that do not exist: {some(strangers)}",
                fix="correct 'patients' in dataset.json",
                file="dataset.json",
            )
        )
    return Listing(
        training=tuple(training),
        test=tuple(test),
        damaged_training=tuple(damaged),
        damaged_test=tuple(damaged_test),
        findings=tuple(findings),
    )


def files_per_case(file: DatasetFile, names: list[Path]) -> int:
    """Image files of one case: one per channel, or a single file for the three colours of a picture."""
    channels = len(file.channels)
    if file.file_ending in PICTURE_ENDINGS and channels == 3:
        numbered = {split_channel(stem_of(path)) for path in names}
        if not any(part is not None and part[1] > 0 for part in numbered):
            return 1
    return channels


def _folder(root: Path, file: DatasetFile, split: str, findings: list[Finding]) -> tuple[list[Case], list[Case]]:
    """Cases of imagesTr/labelsTr or imagesTs/labelsTs; labels are optional for test cases."""
    image_files = _of_ending(root, f"images{split}", file, findings)
    label_files = _of_ending(root, f"labels{split}", file, findings)
    wanted = files_per_case(file, image_files)
    images: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in image_files:
        name = split_channel(path.name[: -len(file.file_ending)])
        if name is None:
            findings.append(
                error(
                    "file-name",
                    "image without a channel number",
                    fix=f"rename it to {path.name[: -len(file.file_ending)]}_0000{file.file_ending}",
                    file=_relative(path, root),
                )
            )
        else:
            images[name[0]][name[1]] = path
    labels = {path.name[: -len(file.file_ending)]: path for path in label_files}
    cases: list[Case] = []
    damaged: list[Case] = []
    for case in sorted(images):
        present = images[case]
        complete = _channels_complete(root, case, present, wanted, file, findings)
        label = labels.get(case)
        if label is None and split == "Tr":
            findings.append(
                error(
                    "label-missing",
                    f"no label labelsTr/{case}{file.file_ending}",
                    fix="add the label, or move the images to imagesTs",
                    case=case,
                    file=_relative(present[min(present)], root),
                )
            )
        whole = complete and (label is not None or split == "Ts")
        files = tuple(present[channel] for channel in sorted(present) if channel < wanted)
        (cases if whole else damaged).append(_case(case, files, label, file))
    for case in sorted(set(labels) - set(images)):
        close = nearest(case, set(images) - set(labels))
        findings.append(
            error(
                "image-missing",
                f"label without an image images{split}/{case}_0000{file.file_ending}",
                fix=f"is it '{close}'? rename it, or remove the label"
                if close
                else "add the image, or remove the label",
                case=case,
                file=_relative(labels[case], root),
            )
        )
        damaged.append(_case(case, (), labels[case], file))
    return cases, damaged


def _case(case: str, images: tuple[Path, ...], label: Path | None, file: DatasetFile) -> Case:
    return Case(id=case, images=images, label=label, patient=file.patients.get(case, case))


def _channels_complete(
    root: Path, case: str, present: Mapping[int, Path], wanted: int, file: DatasetFile, findings: list[Finding]
) -> bool:
    missing = [channel for channel in range(wanted) if channel not in present]
    for channel in missing:
        findings.append(
            error(
                "channel-missing",
                f"channel {channel} ({file.channels[channel]}) is missing",
                fix=f"add {case}_{channel:04d}{file.file_ending}, or remove the case",
                case=case,
                file=_relative(present[min(present)], root),
            )
        )
    for channel in sorted(set(present) - set(range(wanted))):
        findings.append(
            error(
                "channel-extra",
                f"channel {channel}, dataset.json declares {wanted}",
                fix="add it to channel_names in dataset.json, or remove the file",
                case=case,
                file=_relative(present[channel], root),
            )
        )
    return not missing


def _of_ending(root: Path, folder: str, file: DatasetFile, findings: list[Finding]) -> list[Path]:
    """The folder's files with the dataset's ending; others become findings."""
    found: list[Path] = []
    for path in files_in(root / folder):
        if path.name.endswith(file.file_ending):
            found.append(path)
            if path.stat().st_size == 0:
                findings.append(
                    error(
                        "file-empty",
                        "the file has no bytes",
                        fix="copy it again from its source",
                        case=_case_of(path, file),
                        file=_relative(path, root),
                    )
                )
        elif ending_of(path):
            findings.append(
                error(
                    "ending-mixed",
                    f"ending {ending_of(path)}, the dataset's is {file.file_ending}",
                    fix=f"convert it to {file.file_ending}, or remove it",
                    file=_relative(path, root),
                )
            )
        elif not (path.suffix == ".json" and file.file_ending in {".tif", ".tiff"}):
            # A JSON beside a TIFF is nnU-Net's sidecar for the spacing.
            findings.append(
                warning(
                    "file-orphan",
                    "neither an image nor a label",
                    fix="remove it from the dataset",
                    file=_relative(path, root),
                )
            )
    return found


def _explicit(root: Path, file: DatasetFile, findings: list[Finding]) -> tuple[list[Case], list[Case]]:
    """Cases that dataset.json lists under 'dataset'; environment variables in the paths are expanded."""
    cases: list[Case] = []
    damaged: list[Case] = []
    for case, entry in sorted((file.listed or {}).items()):
        images = tuple(root / os.path.expandvars(name) for name in entry.images)
        label = root / os.path.expandvars(entry.label)
        absent = [path for path in (*images, label) if not path.is_file()]
        for path in absent:
            findings.append(
                error(
                    "file-missing",
                    "listed in dataset.json, but there is no such file",
                    fix="correct the path under 'dataset' in dataset.json",
                    case=case,
                    file=_relative(path, root),
                )
            )
        wanted = 1 if len(file.channels) == 3 and ending_of(images[0]) in PICTURE_ENDINGS else len(file.channels)
        wrong_count = len(images) not in {wanted, len(file.channels)}
        if wrong_count:
            findings.append(
                error(
                    "channel-missing" if len(images) < wanted else "channel-extra",
                    f"{len(images)} image files are listed, dataset.json declares {len(file.channels)} channels",
                    fix="list one file per channel under 'dataset' in dataset.json",
                    case=case,
                    file="dataset.json",
                )
            )
        if wrong_count or absent:
            there = tuple(path for path in images if path not in absent)
            damaged.append(_case(case, there, None if label in absent else label, file))
        else:
            cases.append(_case(case, images, label, file))
    return cases, damaged


def _no_cases(root: Path, file: DatasetFile) -> Finding:
    pattern = f"imagesTr/CASE_0000{file.file_ending}"
    if file.listed is not None:
        return error("no-cases", "'dataset' in dataset.json lists no case", fix="list cases, or remove the key")
    everything = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "dataset.json")
    images_first = sorted(everything, key=lambda path: (path.parent.name != "imagesTr", not ending_of(path)))
    near = some((_relative(path, root) for path in images_first), 3)
    return error(
        "no-cases",
        f"no file matches {pattern}" + (f"; nearest: {near}" if near else "; the folder is empty"),
        fix=f"medmoe convert {root} --format folder --name NAME",
    )


def _clashes(training: list[Case], test: list[Case]) -> list[Finding]:
    findings: list[Finding] = []
    by_lower: dict[str, set[str]] = defaultdict(set)
    for case in (*training, *test):
        by_lower[case.id.lower()].add(case.id)
    for names in by_lower.values():
        if len(names) > 1:
            findings.append(
                error(
                    "case-clash",
                    f"the case names {', '.join(sorted(names))} differ only in upper and lower case",
                    fix="rename one of them",
                    case=min(names),
                )
            )
    for name in sorted({case.id for case in training} & {case.id for case in test}):
        findings.append(
            error(
                "case-in-both",
                "the case is in imagesTr and in imagesTs",
                fix="remove it from one of the folders",
                case=name,
            )
        )
    return findings


def _case_of(path: Path, file: DatasetFile) -> str:
    stem = path.name[: -len(file.file_ending)]
    name = split_channel(stem) if path.parent.name.startswith("images") else None
    return name[0] if name else stem


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
