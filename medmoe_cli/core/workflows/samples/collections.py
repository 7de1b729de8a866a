"""The samples of a collection's fold: every member's own, joined, with what each member does not label left unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.config.plan import MemberPlan, Plan
from medmoe_cli.core.config.sections import AugmentConfig, TrainConfig
from medmoe_cli.core.data.balance import sample_weights
from medmoe_cli.core.data.concat_source import ConcatSource, SourcePart
from medmoe_cli.core.data.dataset import Dataset, Member
from medmoe_cli.core.data.selected_source import SelectedSource
from medmoe_cli.core.data.source import SliceSource
from medmoe_cli.core.data.splits import Split
from medmoe_cli.core.data.volume_source import MIN_VOXELS, VolumeSource
from medmoe_cli.core.imaging.sample import Sample, SampleSource
from medmoe_cli.core.workflows.preprocess import Ready


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionSources:
    """A fold's samples, and how often each is drawn.

    Attributes:
        train, validation: the joined members.
        weights: probability of each training sample at every draw.
        line: for the log.
    """

    train: ConcatSource
    validation: ConcatSource
    weights: NDArray[np.float64]
    line: str


def collection_sources(
    *,
    dataset: Dataset,
    plan: Plan,
    ready: Ready,
    cases: Split,
    train: TrainConfig,
    augment: AugmentConfig,
    task: Literal["prompted", "automatic"],
) -> CollectionSources:
    """The samples of a fold.

    Args:
        dataset: the collection.
        plan: its plan.
        ready: the members' preprocessed cases.
        cases: the fold.
        train, augment: the run's.
        task: of the method's first stage; as in `slice_sources`.

    Raises:
        DataError: no member has a labelled sample on one side of the fold.
    """
    usual = None if task == "automatic" else 0.0
    making = _Making(dataset=dataset, plan=plan, ready=ready)
    empty = usual if train.empty_slices is None else train.empty_slices
    training = making.parts(cases.train, empty=empty, augment=augment, selected=True)
    held_out = making.parts(cases.validation, empty=usual, augment=None, selected=False)
    for parts, side in ((training, "to train on"), (held_out, "to validate on")):
        if not parts:
            raise DataError(
                f"no labelled sample {side}",
                where=dataset.root,
                why="no member has a case on this side with a class of the collection",
                fix=f"medmoe check {dataset.name}",
            )
    joined = ConcatSource(training)
    weights = sample_weights(joined, [plan.member(part.name).weight for part in training], train.balance)
    return CollectionSources(
        train=joined,
        validation=ConcatSource(held_out),
        weights=weights,
        line=_line(training, held_out, joined, weights),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Making:
    dataset: Dataset
    plan: Plan
    ready: Ready

    def parts(
        self, ids: Sequence[str], *, empty: float | None, augment: AugmentConfig | None, selected: bool
    ) -> list[SourcePart]:
        found = []
        for member in self.dataset.members:
            own = self.plan.member(member.name)
            values = own.values(self.plan.labels)
            prefix = member.case_id("")
            cases = [case.removeprefix(prefix) for case in ids if case.startswith(prefix)]
            if selected and member.selection is not None:
                cases = [case for case in cases if case in member.selection]
            source = self._source(member, own, values, cases, empty=empty, augment=augment)
            if source is not None and selected and member.selection is not None:
                source = SelectedSource(
                    source,
                    _chosen(member, own),
                    values=tuple(own.plan.labels.values()),
                    volumes=self.plan.dims == 3,
                )
            if source is not None and len(source):
                known = own.known(self.plan.labels)
                found.append(SourcePart(name=member.name, source=source, values=values, known=known))
        return found

    def _source(
        self,
        member: Member,
        own: MemberPlan,
        values: Mapping[int, int],
        cases: Sequence[str],
        *,
        empty: float | None,
        augment: AugmentConfig | None,
    ) -> SampleSource | None:
        """A member's samples; None where it has no labelled one."""
        store, records = self.ready.members[member.name].store, self.ready.members[member.name].records
        least = MIN_VOXELS if self.plan.dims == 3 else 1
        if not any(
            count >= least and value in values
            for case in cases
            for counts in records[case].voxels_per_label
            for value, count in counts.items()
        ):
            return None
        if self.plan.dims == 3:
            return _OfClasses(
                VolumeSource(store=store, records=records, cases=cases, plan=own.plan, augment=augment), values
            )
        source = SliceSource(
            store=store, records=records, cases=cases, plan=own.plan, augment=augment, empty_fraction=empty
        )
        return source if empty is None or len(values) == len(own.plan.labels) else _OfClasses(source, values)


class _OfClasses:
    """A source's samples that show one of some classes: those of classes that the collection leaves out are nothing."""

    def __init__(self, source: SampleSource, values: Mapping[int, int]) -> None:
        self._source = source
        self._items = [
            index
            for index in range(len(source))
            if not source.classes(index) or any(value in values for value in source.classes(index))
        ]

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        return self._source.key(self._items[index])

    def classes(self, index: int) -> tuple[int, ...]:
        return self._source.classes(self._items[index])

    def load(self, index: int, *, seed: int | None) -> Sample:
        return self._source.load(self._items[index], seed=seed)


def _chosen(member: Member, own: MemberPlan) -> dict[str, dict[int, frozenset[int]]]:
    """The selection in the member's own label values."""
    assert member.selection is not None
    by_class: dict[str, list[int]] = {}
    for name, common in own.classes.items():
        by_class.setdefault(common, []).append(own.plan.labels[name])
    return {
        case: {
            place: frozenset(value for name in names for value in by_class.get(name, ()))
            for place, names in slices.items()
        }
        for case, slices in member.selection.items()
    }


def _line(
    training: Sequence[SourcePart],
    held_out: Sequence[SourcePart],
    joined: ConcatSource,
    weights: NDArray[np.float64],
) -> str:
    parts = np.array([joined.part_of(index) for index in range(len(joined))])
    kept = {part.name: len(part.source) for part in held_out}
    told = [
        f"{part.name} {len(part.source)} to train on ({weights[parts == place].sum():.0%} of the draws), "
        f"{kept.get(part.name, 0)} to validate on"
        for place, part in enumerate(training)
    ]
    told += [
        f"{name} {number} to validate on alone"
        for name, number in kept.items()
        if name not in {part.name for part in training}
    ]
    return "; ".join(told)
