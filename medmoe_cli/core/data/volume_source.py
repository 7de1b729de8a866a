"""VolumeSource: the samples a 3D method trains on: a window around each class of each case, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.augment import Augment
from medmoe_cli.core.data.objects import LabelledObject
from medmoe_cli.core.data.store import CaseRecord, Store
from medmoe_cli.core.imaging.sample import Sample

# Fewer voxels than this on the plan's grid are crumbs that resampling left: nobody could point at them.
MIN_VOXELS = 10
# Sliding windows that overlap by half show every object within a quarter of their side from the centre of one of them.
_JITTER = 4
# An object larger than the window reaches at least this far into it, as a fraction of the window's side.
_REACH = 8

Place = tuple[int, int, int]


class VolumeSource:
    """Windows of a list of cases, as a `SampleSource`; picklable, and cheap to send to workers.

    A sample is one class of one case: a cube of the plan's input size around that class's object, which alone is asked
    for (`Sample.asked`); other classes are in its label map. Where the volume ends the window goes on with 0, and is
    not valid there.

    Args:
        store: the preprocessed cases.
        records: the cases' records.
        cases: ids to take, in this order.
        plan: the plan they were preprocessed by.
        augment: None switches augmentation off even when a seed is given.
        min_voxels: classes with fewer voxels in a case are left out there.

    Attributes:
        num_left_out: classes of cases with too few voxels.

    Raises:
        DataError: no case has a labelled object.
    """

    def __init__(
        self,
        *,
        store: Store,
        records: Mapping[str, CaseRecord],
        cases: Sequence[str],
        plan: Plan,
        augment: AugmentConfig | None = None,
        min_voxels: int = MIN_VOXELS,
    ) -> None:
        self._store, self._side, self._shown = store, plan.input_size, plan.shown_positions
        self._records = {case: records[case] for case in cases}
        self._dtype = np.uint8 if len(plan.labels) <= np.iinfo(np.uint8).max else np.uint16
        present = [
            (case, label, count) for case in cases for label, count in sorted(records[case].voxels_per_label[0].items())
        ]
        self._items = [(case, label) for case, label, count in present if count >= min_voxels]
        self.num_left_out = len(present) - len(self._items)
        if not self._items:
            raise DataError(
                "no labelled object",
                where=plan.dataset,
                why=f"none of the {len(cases)} cases of this fold has a class of {min_voxels} voxels or more",
                fix=f"medmoe check {plan.dataset}",
            )
        self._augment: Augment | None = None
        if augment is not None and augment.enabled:
            self._augment = Augment(
                augment,
                mirror_axes=plan.mirror_axes,
                mirror_swaps=plan.mirror_swaps,
                volumes=True,
                unit_range=all(channel.normalization not in {"none", "zscore"} for channel in plan.channels),
            )

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._items)

    def key(self, index: int) -> str:
        """'case_001:2': the case and the label value."""
        case, label = self._items[index]
        return f"{case}:{label}"

    def classes(self, index: int) -> tuple[int, ...]:
        """The label value that the window is cut for."""
        return (self._items[index][1],)

    def load(self, index: int, *, seed: int | None) -> Sample:
        """Read one window: centred on its object, or with a seed moved about it and augmented by that seed only.

        Raises:
            DataError: the stored file is absent or damaged.
        """
        case, label = self._items[index]
        record = self._records[case]
        rng = None if seed is None else generator(seed, "window")
        start = window_start(record.objects[label], self._side, rng=rng)
        stored = self._store.read_window(record, start, (self._side,) * 3)
        sample = Sample(
            image=stored.image,
            label=stored.label.astype(self._dtype),
            valid=stored.valid,
            case_id=case,
            index=0,
            asked=(label,),
        )
        if seed is not None and self._augment is not None:
            sample = self._augment(sample, seed)
        return sample if self._shown is None else replace(sample, image=sample.image[list(self._shown)])


def window_start(found: LabelledObject, side: int, *, rng: np.random.Generator | None) -> Place:
    """First voxel z, y, x of a window around an object; it may lie outside the volume.

    An object that fits into the window is all inside. Of a larger one a part is: around one of its voxels, the one
    nearest the centre of its box or, with a generator, a random one.

    Args:
        found: the object.
        side: of the window, voxels.
        rng: moves the window; None centres it.
    """
    start, stop = np.array(found.start), np.array(found.stop)
    middle = (start + stop - side) // 2  # of the window's possible starts
    anchors = np.array(found.anchors)
    if rng is None:
        anchor = anchors[int(((anchors - middle - side / 2) ** 2).sum(axis=1).argmin())]
    else:
        anchor = anchors[int(rng.integers(len(anchors)))]
    fits = stop - start <= side
    jitter, reach = side // _JITTER, side // _REACH
    lowest = np.where(
        fits, np.maximum(stop - side, middle - jitter), np.clip(anchor - side + 1 + reach, start, stop - side)
    )
    highest = np.where(fits, np.minimum(start, middle + jitter), np.clip(anchor - reach, start, stop - side))
    chosen = np.clip(middle, lowest, highest) if rng is None else rng.integers(lowest, highest + 1)
    z, y, x = (int(place) for place in chosen)
    return z, y, x
