"""What the report says of the network itself: its size, and feature maps of one slice, or of a slice of a window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.engine.optim import apply_stage
from medmoe_cli.core.nn.segmenter import Segmenter
from medmoe_cli.core.reporting.feature_maps import feature_pictures
from medmoe_cli.core.reporting.numbers import percent
from medmoe_cli.core.reporting.overlay import fullest_slices
from medmoe_cli.core.reporting.page import Block, Missing, Table
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel
from medmoe_cli.core.workflows.predicting.requests import reference_labels
from medmoe_cli.core.workflows.predicting.scans import ScanCase, read_scan
from medmoe_cli.core.workflows.reports.cases import chosen_cases, find_case
from medmoe_cli.core.workflows.reports.plane import fullest_plane, plane_maps
from medmoe_cli.core.workflows.reports.sources import RunSources

_PART = "feature maps"


def parameter_blocks(segmenter: Segmenter) -> tuple[Block, ...]:
    """A table of the network's parts: how many parameters, and what each stage trained."""
    stages = []
    for stage in segmenter.stages():
        apply_stage(segmenter, stage)
        stages.append((stage.name, segmenter.parameter_groups()))
    groups = stages[0][1]
    rows = [
        (group.name, f"{group.total:,}", *(f"{parts[place].trainable:,}" for _, parts in stages))
        for place, group in enumerate(groups)
    ]
    total = sum(group.total for group in groups)
    trained = [sum(group.trainable for group in parts) for _, parts in stages]
    rows.append(("all", f"{total:,}", *(f"{number:,} ({percent(number / total, 1)})" for number in trained)))
    return (
        Table(
            caption="Parameters of the network's parts",
            columns=("Part", "Parameters", *(f"trained in stage '{name}'" for name, _ in stages)),
            rows=tuple(rows),
            note="What is not trained stays as it was before: a frozen backbone, for instance.",
        ),
    )


def feature_blocks(model: LoadedModel, sources: RunSources, dataset: Dataset) -> tuple[Block, ...]:
    """The feature maps a method offers, on the fullest slice of the best case."""
    if type(model.segmenter).pictures is Segmenter.pictures:
        return (Missing(part=_PART, why=f"{sources.card.title} offers none to look at."),)
    assert sources.summary is not None
    chosen = chosen_cases(sources.summary)
    if not chosen:
        return (Missing(part=_PART, why="No case has a score to choose one by."),)
    best = chosen[0].unit.case
    try:
        case = find_case(dataset, best)
        plan = sources.plan.for_case(case.id)
        image = read_scan(ScanCase(id=case.id, files=case.images), num_channels=len(plan.channels))
        prepared = prepare_scan(image, plan)
        assert case.label is not None
        numbers = sources.plan.reference_values(case.id)
        reference_SHW = prepared.label_slices(reference_labels(case.label, prepared, numbers))
    except MedMoEError as error:
        return (Missing(part=_PART, why=error.line()),)
    if isinstance(prepared, VolumeScan):
        plane = fullest_plane(prepared, reference_SHW)
        maps = plane_maps(model.segmenter, plane)
        picture, where = plane.picture, f"best case {best}, a slice of the window around its structures"
    else:
        index = fullest_slices(reference_SHW, limit=1)[0]
        maps = _maps(model.segmenter, prepared, index)
        number = prepared.num_slices
        picture = _scan(prepared, index)
        where = f"best case {best}" + (f", slice {index + 1} of {number}" if number > 1 else "")
    if not maps:
        return (Missing(part=_PART, why=f"{sources.card.title} offers none to look at."),)
    return feature_pictures(picture, maps, case=where)


def _maps(segmenter: Segmenter, prepared: Prepared, index: int) -> Mapping[str, NDArray[np.float32]]:
    images = torch.from_numpy(np.ascontiguousarray(prepared.slice(index).image))[None]
    with torch.inference_mode():
        found = segmenter.pictures(images)
    return {name: _shown(values[0].float().numpy(), prepared) for name, values in found.items()}


def _scan(prepared: Prepared, index: int) -> NDArray[np.floating]:
    """The slice on the network's grid, where pixels are square."""
    picture_CHW = _shown(prepared.fit.fit_image(prepared.native_slice(index)).image, prepared)
    return picture_CHW.transpose(1, 2, 0) if picture_CHW.shape[0] == 3 else picture_CHW[0]


def _shown(map_CHW: NDArray[np.float32], prepared: Prepared) -> NDArray[np.float32]:
    """Without the padding, and the head on top."""
    fit = prepared.fit
    rows = max(1, round(map_CHW.shape[1] * fit.resized_rows / fit.input_size))
    cols = max(1, round(map_CHW.shape[2] * fit.resized_cols / fit.input_size))
    part = map_CHW[:, :rows, :cols]
    return part[:, ::-1] if prepared.plan.slice_axis != 2 and prepared.num_slices > 1 else part
