"""What is made of a segmented scan: the label map on its own grid, and the slices of its preview."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.reporting.overlay import Marks, Row, fullest_slices
from medmoe_cli.core.workflows.predicting.segmented import Segmented


def file_labels(prepared: SlicedScan, segmented: Segmented) -> NDArray[np.unsignedinteger]:
    """The result (X, Y, Z) in the scan's own voxel order, with the values of the dataset's own label maps."""
    grid = prepared.to_file_grid(segmented.labels_SHW)
    values = prepared.plan.file_values
    if all(value == file_value for value, file_value in values.items()):
        return np.ascontiguousarray(grid)
    table = np.zeros(max(values) + 1, np.uint16)
    for value, file_value in values.items():
        table[value] = file_value
    mapped: NDArray[np.unsignedinteger] = table[grid]
    return mapped


def preview_rows(
    prepared: SlicedScan, segmented: Segmented, reference_SHW: NDArray[np.integer] | None = None
) -> list[Row]:
    """The slices of a preview: those with most of the reference, else of the prediction."""
    shown = reference_SHW if reference_SHW is not None else segmented.labels_SHW
    spacing = prepared.pixel_mm
    rows: list[Row] = []
    for index in fullest_slices(shown):
        picture = prepared.native_slice(index)
        points: list[tuple[float, float, bool]] = []
        boxes: list[tuple[float, float, float, float]] = []
        for prompt in segmented.prompts.get(index, []):
            for click in prompt.clicks:
                x, y = prepared.points_to_pixels(np.array([click.position]))[0]
                points.append((float(x), float(y), click.foreground))
            if prompt.box is not None:
                x0, y0, x1, y1 = prepared.boxes_to_pixels(np.array([prompt.box]))[0]
                boxes.append((float(x0), float(y0), float(x1), float(y1)))
        rows.append(
            Row(
                title=f"slice {index}" if prepared.num_slices > 1 else "image",
                picture=picture.transpose(1, 2, 0) if picture.shape[0] == 3 else picture[0],
                prediction=segmented.labels_SHW[index],
                reference=None if reference_SHW is None else reference_SHW[index],
                marks=Marks(points=tuple(points), boxes=tuple(boxes)),
                aspect=spacing[0] / spacing[1],
            )
        )
    return rows
