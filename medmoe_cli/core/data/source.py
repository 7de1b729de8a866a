"""SliceSource: the samples a 2D method trains on, read one slice at a time from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.augment import Augment
from medmoe_cli.core.data.prepare import shown_slices
from medmoe_cli.core.data.store import CaseRecord, Store
from medmoe_cli.core.imaging.sample import Sample


class SliceSource:
    """Slices of a list of cases, as a `SampleSource`; picklable, and cheap to send to workers.

    Args:
        store: the preprocessed cases.
        records: the cases' records.
        cases: ids to take, in this order.
        plan: the plan they were preprocessed by.
        augment: None switches augmentation off even when a seed is given.
        empty_fraction: slices without any label to take along, as a fraction of those with one, None for all; which
            ones is fixed by their names. Prompted tasks ask for what is there, so they need none.

    Attributes:
        num_empty: slices without any label among them.

    Raises:
        DataError: no slice of the cases is labelled.
    """

    def __init__(
        self,
        *,
        store: Store,
        records: Mapping[str, CaseRecord],
        cases: Sequence[str],
        plan: Plan,
        augment: AugmentConfig | None = None,
        empty_fraction: float | None = 0.0,
    ) -> None:
        self._store, self._context, self._shown = store, plan.context_slices, plan.shown_positions
        self._records = {case: records[case] for case in cases}
        self._dtype = np.uint8 if len(plan.labels) <= np.iinfo(np.uint8).max else np.uint16
        labelled: list[tuple[str, int]] = []
        empty: list[tuple[str, int]] = []
        for case in cases:
            for index, counts in enumerate(records[case].voxels_per_label):
                (labelled if counts else empty).append((case, index))
        if not labelled:
            raise DataError(
                "no labelled slice",
                where=plan.dataset,
                why=f"none of the {len(cases)} cases of this fold has one",
                fix=f"medmoe check {plan.dataset}",
            )
        empty.sort(key=lambda item: derive_seed(*item))
        order = {case: position for position, case in enumerate(cases)}
        wanted = len(empty) if empty_fraction is None else round(empty_fraction * len(labelled))
        taken = labelled + empty[:wanted]
        self.num_empty = len(taken) - len(labelled)
        self._items = sorted(taken, key=lambda item: (order[item[0]], item[1]))
        self._augment: Augment | None = None
        if augment is not None and augment.enabled:
            as_is = any(channel.normalization == "none" for channel in plan.channels)
            self._augment = Augment(
                augment,
                mirror_axes=plan.mirror_axes,
                mirror_swaps=plan.mirror_swaps,
                unit_range=not as_is,
                num_slices=2 * plan.context_slices + 1,
            )

    def __len__(self) -> int:
        """Number of slices."""
        return len(self._items)

    def key(self, index: int) -> str:
        """'case_001:17'."""
        case, position = self._items[index]
        return f"{case}:{position}"

    def classes(self, index: int) -> tuple[int, ...]:
        """Label values present in the slice, ascending; nothing is read."""
        case, position = self._items[index]
        return tuple(sorted(self._records[case].voxels_per_label[position]))

    def load(self, index: int, *, seed: int | None) -> Sample:
        """Read one slice, amid its neighbours where the plan shows them; with a seed, augment it by that seed only.

        Without a seed the image is what `Prepared.slice` gives in prediction.

        Raises:
            DataError: the stored file is absent or damaged.
        """
        case, position = self._items[index]
        record = self._records[case]
        shown = shown_slices(position, num_slices=record.num_samples, context=self._context)
        stored = self._store.read(record, position, shown=shown)
        sample = Sample(
            image=stored.image,
            label=stored.label.astype(self._dtype),
            valid=stored.valid,
            case_id=case,
            index=position,
        )
        if seed is not None and self._augment is not None:
            sample = self._augment(sample, seed)
        return sample if self._shown is None else replace(sample, image=sample.image[list(self._shown)])
