"""Everything that can be wrong inside one case's files; the part of `check` that runs in worker processes.

One image is in memory at a time. A file that cannot be read is one finding; what the others of the case allow is
still checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import GeometryError, MedMoEError
from medmoe_cli.core.data.check_label import LabelFacts, examine_label
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.data.filenames import PICTURE_ENDINGS
from medmoe_cli.core.data.finding import Finding, error, warning
from medmoe_cli.core.data.grids import Grid, compare_grids, has_space
from medmoe_cli.core.data.inputs import relative
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image

MIN_SPACING_MM = 0.01
MAX_SPACING_MM = 100.0

_READING: dict[str, str] = {
    "empty file": "file-empty",
    "truncated file": "file-corrupt",
    "truncated or false header": "file-corrupt",
    "damaged file": "file-corrupt",
    "damaged picture": "file-corrupt",
    "trailing data": "file-corrupt",
    "not what its name says": "file-format",
    "not a NIfTI file": "file-format",
    "not a PNG file": "file-format",
    "not a JPG file": "file-format",
    "not a TIFF file": "file-format",
    "voxels that are not numbers": "not-finite",
    "a label in colours": "label-4d",
}
"""What the readers call a problem, and the finding's code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseJob:
    """One case to look at, complete or not."""

    case: Case
    split: Literal["Tr", "Ts"]
    root: Path
    channels: tuple[str, ...]
    labels: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseReport:
    """What one case looks like from inside.

    Attributes:
        job: the case.
        findings: what is wrong with it.
        contents: digest of each readable image's voxels, by file.
        voxels: labelled voxels by value; None where there is no readable label.
        num_slices: length of the third axis of the first readable image; 0 without one.
    """

    job: CaseJob
    findings: tuple[Finding, ...]
    contents: Mapping[str, str] = field(default_factory=dict)
    voxels: Mapping[int, int] | None = None
    num_slices: int = 0


def examine_case(job: CaseJob) -> CaseReport:
    """Look into every file of a case."""
    findings: list[Finding] = []
    contents: dict[str, str] = {}
    first: Grid | None = None
    for path in job.case.images:
        if path.stat().st_size == 0:
            continue  # the listing has said so
        file = relative(path, job.root)
        try:
            image = read_image(path)
        except MedMoEError as problem:
            findings.append(reading_problem(problem, job.case.id, file))
            continue
        grid = Grid(geometry=image.geometry, header=image.header)
        findings += _image_findings(image, job, file)
        if first is None:
            first = grid
        else:
            findings += _channel_findings(first, grid, job, file)
        digest = content_digest(image.data)
        if digest in contents.values():
            twin = next(name for name, other in contents.items() if other == digest)
            fix = "copy the right file for this channel, or remove it from channel_names"
            message = f"the same voxels as {twin}"
            findings.append(warning("channel-duplicate", message, fix=fix, case=job.case.id, file=file))
        contents[file] = digest
        del image
    facts = _label(job, first, findings)
    return CaseReport(
        job=job,
        findings=tuple(findings),
        contents=contents,
        voxels=None if facts is None else facts.voxels,
        num_slices=0 if first is None else first.geometry.shape[2],
    )


def reading_problem(problem: MedMoEError, case: str, file: str) -> Finding:
    """A reader's refusal as a finding."""
    code = _READING.get(problem.what, "file-unreadable")
    if isinstance(problem, GeometryError):
        code = "qform-sform" if "qform" in problem.why and "sform" in problem.why else "affine-bad"
    message = f"{problem.what}: {problem.why}" if problem.why else problem.what
    return error(code, message, fix=problem.fix or "export the file again", case=case, file=file)


def content_digest(data: NDArray[Any]) -> str:
    """Digest of the voxels (C, X, Y, Z) whatever their type on disk, slice by slice."""
    digest = hashlib.sha256(repr(data.shape).encode())
    for index in range(data.shape[3]):
        digest.update(np.ascontiguousarray(data[..., index], dtype=np.float32).tobytes())
    return digest.hexdigest()


def _label(job: CaseJob, image: Grid | None, findings: list[Finding]) -> LabelFacts | None:
    path = job.case.label
    if path is None or path.stat().st_size == 0:
        return None
    file = relative(path, job.root)
    images = [image_path for image_path in job.case.images if image_path.stat().st_size > 0]
    try:
        facts = examine_label(path, file, job.case.id, job.labels, images[0] if images else None)
    except MedMoEError as problem:
        findings.append(reading_problem(problem, job.case.id, file))
        return None
    findings += facts.findings
    if image is not None:
        findings += _label_grid_findings(image, facts.grid, job.case.id, file)
    return facts


def _image_findings(image: Image, job: CaseJob, file: str) -> list[Finding]:
    case = job.case.id
    found: list[Finding] = []
    single_file = len(job.case.images) == 1 and len(job.channels) == 3 and _is_picture(job.case.images[0])
    expected = 3 if single_file else 1
    if image.num_channels != expected:
        names = ", ".join(job.channels)
        if image.header.format == "nifti" and expected == 1:
            found.append(
                error(
                    "image-4d",
                    f"{image.num_channels} volumes in one file",
                    fix="split it into one file per channel: medmoe convert ROOT --format msd --name NAME",
                    case=case,
                    file=file,
                )
            )
        else:
            found.append(
                error(
                    "image-channels",
                    f"{image.num_channels} channels, dataset.json declares {len(job.channels)} ({names})",
                    fix="save it like the others, or correct channel_names in dataset.json",
                    case=case,
                    file=file,
                )
            )
    if image.data.min() == image.data.max():
        message = f"all voxels are {image.data.flat[0]:g}"
        found.append(error("image-constant", message, fix="export it again, or remove the case", case=case, file=file))
    found += _space_findings(Grid(geometry=image.geometry, header=image.header), case, file)
    return found


def _space_findings(grid: Grid, case: str, file: str) -> list[Finding]:
    found: list[Finding] = []
    if not has_space(grid.header):
        if grid.header.format == "nifti":
            message = "neither qform nor sform is set: left and right are a guess"
            found.append(warning("no-orientation", message, fix="export it with its orientation", case=case, file=file))
        return found
    sides = [side for side, length in zip(grid.geometry.spacing_mm, grid.geometry.shape, strict=True) if length > 1]
    odd = [side for side in sides if not MIN_SPACING_MM <= side <= MAX_SPACING_MM]
    if odd:
        found.append(
            error(
                "spacing-units",
                f"a voxel side of {odd[0]:.3g} mm: are these metres or micrometres?",
                fix="write the voxel size in mm and set the header's unit",
                case=case,
                file=file,
            )
        )
    for note in grid.header.notes:
        if "sform and qform" in note:
            fix = "set both to the scanner's affine; other programs take the other one"
            found.append(warning("qform-sform", note, fix=fix, case=case, file=file))
    return found


def _channel_findings(first: Grid, other: Grid, job: CaseJob, file: str) -> list[Finding]:
    verdict = compare_grids(first, other)
    if verdict.kind == "same":
        return []
    one = job.case.images[0].name
    if verdict.kind == "near":
        return [_near(f"{verdict} ({one})", job.case.id, file)]
    code = "channel-shape" if first.geometry.shape != other.geometry.shape else "channel-grid"
    return [
        error(
            code,
            f"another grid than {one}: {verdict}",
            fix="resample the channels of a case to one grid",
            case=job.case.id,
            file=file,
        )
    ]


def _label_grid_findings(image: Grid, label: Grid, case: str, file: str) -> list[Finding]:
    """One finding per way in which the label's grid differs from its image's."""
    verdict = compare_grids(image, label)
    if verdict.kind == "same":
        return []
    if verdict.kind == "near":
        return [_near(str(verdict), case, file)]
    found: list[Finding] = []
    codes = {"shape": "label-shape", "spacing": "label-spacing", "direction": "label-direction"}
    for difference in verdict.differences:
        code = codes.get(difference.split()[0], "label-origin")
        fix = "resample the label to the image's grid (nearest neighbour), or correct its header"
        found.append(error(code, f"image and label: {difference}", fix=fix, case=case, file=file))
    return found


def _near(why: str, case: str, file: str) -> Finding:
    message = f"grids differ by rounding: {why}"
    return warning("grid-rounding", message, fix="copy the image's header to it", case=case, file=file)


def _is_picture(path: Path) -> bool:
    return any(path.name.lower().endswith(ending) for ending in PICTURE_ENDINGS)
