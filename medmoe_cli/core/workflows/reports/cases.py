"""The report's cases: which are shown, on which slices, turned as readers look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError, GeometryError, MedMoEError
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.load import number_labels
from medmoe_cli.core.data.prepare import image_windows
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.normalize import normalize
from medmoe_cli.core.imaging.orientation import Reorientation, reorientation_of
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.imaging.slices import slices_first
from medmoe_cli.core.reporting.cases import CaseSlice, Sides, draw_case, most_wrong
from medmoe_cli.core.reporting.numbers import millimetres, ratio
from medmoe_cli.core.reporting.overlay import fullest_slices
from medmoe_cli.core.reporting.page import Block, Missing, Picture, Text
from medmoe_cli.core.reporting.summary_file import SummaryRead, UnitRead
from medmoe_cli.core.workflows.predicting.scans import ScanCase, read_scan
from medmoe_cli.core.workflows.reports.sources import RunSources

_SLICES, _SLICES_OF_THE_WORST = 2, 3
_ORIENTED = {"nifti", "nrrd", "mha", "dicom"}
# By slice axis, canonical axes to the patient's left, back and head; the head is shown on top.
_SIDES = {
    0: Sides(left="A", right="P", top="S", bottom="I"),
    1: Sides(left="R", right="L", top="S", bottom="I"),
    2: Sides(left="R", right="L", top="A", bottom="P"),
}
_COUNTED_FROM = {0: "the patient's right", 1: "the front", 2: "the patient's feet"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A case to show: 'best', 'median' or 'worst', and its scores."""

    role: str
    unit: UnitRead


def chosen_cases(summary: SummaryRead) -> tuple[Chosen, ...]:
    """The best, median and worst case by mean Dice over their structures; fewer where there are fewer cases."""
    scored = [(mean, unit) for unit in summary.metric_per_case if (mean := unit.mean("Dice")) is not None]
    ranked = [unit for _, unit in sorted(scored, key=lambda item: (-item[0], item[1].case))]
    if len(ranked) < 2:
        return tuple(Chosen(role="only", unit=unit) for unit in ranked)
    found = [Chosen(role="best", unit=ranked[0])]
    if len(ranked) > 2:
        found.append(Chosen(role="median", unit=ranked[len(ranked) // 2]))
    return (*found, Chosen(role="worst", unit=ranked[-1]))


def find_case(dataset: Dataset, case_id: str) -> Case:
    """A labelled case.

    Raises:
        DataError: the dataset has none of that name any more.
    """
    for case in dataset.training:
        if case.id == case_id:
            return case
    raise DataError(f"case '{case_id}' is gone", where=dataset.root, fix="restore the dataset")


def case_blocks(sources: RunSources, dataset: Dataset) -> tuple[Block, ...]:
    """A picture per chosen case; what cannot be read is said."""
    assert sources.summary is not None
    blocks: list[Block] = [
        Text(
            text="Chosen by mean Dice over the structures of a case. Solid lines are the reference, dashed lines the "
            "prediction; the right column marks what was missed and what is too much."
            + (
                " Of the worst case those slices are shown that differ most."
                if len(sources.summary.metric_per_case) > 1
                else ""
            )
        )
    ]
    for chosen in chosen_cases(sources.summary):
        try:
            blocks.append(_picture(chosen, sources, dataset))
        except MedMoEError as error:
            blocks.append(Missing(part=f"{chosen.role} case, {chosen.unit.case}", why=error.line()))
    return tuple(blocks)


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """A case, slices first, turned for looking at: (S, rows, cols) label values and (C, S, rows, cols) intensities."""

    image: Image
    turn: Reorientation
    values_CSHW: NDArray[Any]
    reference_SHW: NDArray[np.integer]
    prediction_SHW: NDArray[np.integer]


def _picture(chosen: Chosen, sources: RunSources, dataset: Dataset) -> Picture:
    plan, unit = sources.plan.for_case(chosen.unit.case), chosen.unit
    view = _view(find_case(dataset, unit.case), _mask_of(unit, sources.fold), sources)
    worst = chosen.role == "worst"
    shown = most_wrong(view.reference_SHW, view.prediction_SHW, limit=_SLICES_OF_THE_WORST) if worst else []
    shown = shown or sorted(fullest_slices(view.reference_SHW, limit=_SLICES))
    oriented = view.image.header.format in _ORIENTED and len(view.reference_SHW) > 1
    channels = image_windows(view.image, plan)
    row_mm, col_mm = _pixel_mm(view.turn, plan.slice_axis)
    slices = []
    for index in shown:
        picture_CHW = normalize(view.values_CSHW[:, index], channels)
        number = len(view.reference_SHW)
        slices.append(
            CaseSlice(
                title=f"slice {index + 1} of {number}" if number > 1 else "image",
                picture=picture_CHW.transpose(1, 2, 0) if picture_CHW.shape[0] == 3 else picture_CHW[0],
                reference=view.reference_SHW[index],
                prediction=view.prediction_SHW[index],
                pixel_mm=(row_mm, col_mm),
                sides=_SIDES[plan.slice_axis] if oriented else Sides(),
            )
        )
    caption = f"{_title(chosen)}. {_scores(unit, sources.summary)}."
    if oriented:
        caption += (
            f" Slices are counted from {_COUNTED_FROM[plan.slice_axis]}; letters name the patient's sides (R right, "
            "L left, A front, P back, S head, I feet)."
        )
    return Picture(
        name=f"case-{chosen.role}",
        png=draw_case(slices, names=sources.class_names, colours=sources.colours),
        alt=f"{_title(chosen)}, {' and '.join(item.title for item in slices)}: the scan, reference and predicted "
        f"outlines, and their differences. {_scores(unit, sources.summary)}.",
        caption=caption,
    )


def _title(chosen: Chosen) -> str:
    return f"{chosen.role.capitalize()} case: {chosen.unit.case}"


def _scores(unit: UnitRead, summary: SummaryRead | None) -> str:
    assert summary is not None
    parts = []
    for key, item in summary.classes.items():
        name = item.name.replace("_", " ")
        presence = unit.metrics.get(key, {}).get("presence")
        distance = unit.value(key, "HD95")
        if presence == "missed":
            parts.append(f"{name} missed")
        elif presence == "false_positive":
            parts.append(f"{name} false alarm")
        elif unit.value(key, "Dice") is not None:
            parts.append(f"{name} {ratio(unit.value(key, 'Dice'))}")
            if distance is not None:
                parts[-1] += f" (HD95 {millimetres(distance)} mm)"
    return f"Mean Dice {ratio(unit.mean('Dice'))}: {', '.join(parts)}"


def _mask_of(unit: UnitRead, fold: Path) -> Path:
    """The predicted mask; the run may have been moved since."""
    member = unit.case.rpartition("/")[0]
    beside = fold / "validation" / "masks" / member / unit.prediction_file.name
    return beside if beside.is_file() else unit.prediction_file


def _view(case: Case, mask: Path, sources: RunSources) -> _View:
    if case.label is None:
        raise DataError("case without a label", where=case.id, fix="restore the dataset")
    plan = sources.plan.for_case(case.id)
    image = read_scan(ScanCase(id=case.id, files=case.images), num_channels=len(plan.channels))
    turn = reorientation_of(image.geometry)
    # Canonical rows run to the feet's end first where the head is along them: readers want the head on top.
    upside_down = plan.slice_axis != 2 and turn.target.shape[plan.slice_axis] > 1

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        slices = slices_first(turn.apply(array), plan.slice_axis)
        return slices[..., ::-1, :] if upside_down else slices

    return _View(
        image=image,
        turn=turn,
        values_CSHW=turned(image.data),
        reference_SHW=turned(_numbers(case.label, image, sources.plan.reference_values(case.id))),
        prediction_SHW=turned(_numbers(mask, image, {file: value for value, file in plan.file_values.items()})),
    )


def _numbers(path: Path, image: Image, numbers: Mapping[int, int]) -> NDArray[np.integer]:
    labels = read_labels(path)
    differences = image.geometry.differences(labels.geometry)
    if differences:
        raise GeometryError(
            "mask lies on another grid than its scan", where=path, why="; ".join(differences), fix="restore the dataset"
        )
    found: NDArray[np.integer] = number_labels(labels.data, numbers, path)
    return found


def _pixel_mm(turn: Reorientation, slice_axis: int) -> tuple[float, float]:
    cols, rows = (axis for axis in range(3) if axis != slice_axis)
    spacing = turn.target.spacing_mm
    return spacing[rows], spacing[cols]
