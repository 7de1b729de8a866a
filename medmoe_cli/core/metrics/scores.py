"""Scores of one pair of label maps, before anything is averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from medmoe_cli.core.metrics.classes import ScoredClass
from medmoe_cli.core.metrics.overlap import Counts, PairCounts, count_pairs
from medmoe_cli.core.metrics.policy import Presence
from medmoe_cli.core.metrics.surface import Elements, SurfaceDistances, bounding_box, surface_distances


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A metric of a convention.

    Attributes:
        name: its key in summary.json.
        unit: '' for ratios, 'mm', 'ml' or 'voxels'.
        definition: one line that tells which of the possible definitions it is.
        penalised: True when its undefined values have a penalty, and so a second mean.
    """

    name: str
    unit: str
    definition: str
    penalised: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """One class of one unit.

    Attributes:
        key: the class's key.
        counts: its voxels.
        presence: in which mask it occurs.
        values: by column; NaN where undefined (not counted).
        penalised: by column, the value that replaces an undefined one in the penalised mean.
    """

    key: str
    counts: Counts
    presence: Presence
    values: Mapping[str, float]
    penalised: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitScores:
    """What is averaged over: a case, or one slice of it.

    Attributes:
        case_id: the case.
        slice_index: the slice along the convention's slice axis; None when the unit is the whole case.
        classes: scores in the order of the classes.
    """

    case_id: str
    slice_index: int | None
    classes: tuple[ClassScores, ...]


# No slots: cached_property keeps its values in the instance.
@dataclass(frozen=True, kw_only=True)
class LabelPair:
    """A reference and a prediction on one grid.

    Attributes:
        case_id: the case.
        reference: integer labels (X, Y, Z).
        prediction: integer labels of the same shape.
        spacing_mm: voxel size along x, y, z.
        ignore: a reference value whose voxels are not scored.
    """

    case_id: str
    reference: NDArray[np.integer]
    prediction: NDArray[np.integer]
    spacing_mm: tuple[float, float, float]
    ignore: int | None = None

    @cached_property
    def pairs(self) -> PairCounts:
        """Voxels by pair of values."""
        return count_pairs(self.reference, self.prediction, ignore=self.ignore)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def diagonal_mm(self) -> float:
        """Length of the grid's diagonal in mm, of the plane's for a single slice."""
        axes = spatial_axes(self.reference.shape)
        return float(np.linalg.norm([self.reference.shape[axis] * self.spacing_mm[axis] for axis in axes]))

    def surfaces(
        self, scored: ScoredClass, *, elements: Elements = "marching-cubes", in_voxels: bool = False
    ) -> SurfaceDistances:
        """Distances between the class's two surfaces, in mm or in voxels."""
        box = self._box(scored)
        reference, prediction = self.reference[box], self.prediction[box]
        masks = self._mask(reference, scored), self._mask(prediction, scored)
        if self.ignore is not None:
            masks = masks[0], masks[1] & (reference != self.ignore)
        spacing = (1.0, 1.0, 1.0) if in_voxels else self.spacing_mm
        # Whether this is a picture or a volume is the grid's property, never the box's: an organ can be flat.
        axes = spatial_axes(self.reference.shape)
        shape = tuple(masks[0].shape[axis] for axis in axes)
        return surface_distances(
            masks[0].reshape(shape), masks[1].reshape(shape), [spacing[axis] for axis in axes], elements=elements
        )

    def _mask(self, labels: NDArray[np.integer], scored: ScoredClass) -> NDArray[np.bool_]:
        if len(scored.values) == 1:
            return np.asarray(labels == scored.values[0])
        return np.isin(labels, scored.values)

    def _box(self, scored: ScoredClass) -> tuple[slice, ...]:
        boxes = [box for boxes in self._boxes for value in scored.values if (box := boxes.get(value)) is not None]
        return tuple(
            slice(min((box[axis].start for box in boxes), default=0), max((box[axis].stop for box in boxes), default=0))
            for axis in range(3)
        )

    @cached_property
    def _boxes(self) -> tuple[dict[int, tuple[slice, ...]], ...]:
        """The box around each value, of the reference and of the prediction."""
        return tuple(_value_boxes(labels) for labels in (self.reference, self.prediction))


def spatial_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that make the picture: all of a volume's; without the last one of length 1 for a single slice."""
    axes = tuple(range(len(shape)))
    flat = [axis for axis in axes if shape[axis] == 1]
    return tuple(axis for axis in axes if axis != flat[-1]) if flat else axes


def _value_boxes(labels: NDArray[np.integer]) -> dict[int, tuple[slice, ...]]:
    """The smallest box around each foreground value."""
    if labels.flags.f_contiguous and not labels.flags.c_contiguous:
        # Files are read with x running fastest; going along memory is several times faster.
        return {value: box[::-1] for value, box in _value_boxes(labels.T).items()}
    whole = bounding_box(labels)
    if whole is None:
        return {}
    return {
        value: tuple(
            slice(part.start + outer.start, part.stop + outer.start) for part, outer in zip(box, whole, strict=True)
        )
        for value, box in enumerate(find_objects(labels[whole]), start=1)
        if box is not None
    }
