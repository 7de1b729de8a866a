"""Which slices of a fold are trained on and validated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import AugmentConfig, TrainConfig
from medmoe_cli.core.data.source import SliceSource
from medmoe_cli.core.data.splits import Split
from medmoe_cli.core.data.store import CaseRecord, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSources:
    """A fold's slices; those to train on are augmented."""

    train: SliceSource
    validation: SliceSource

    @property
    def line(self) -> str:
        """For the log."""
        return (
            f"{len(self.train)} slices to train on, {self.train.num_empty} of them without a label; "
            f"{len(self.validation)} to validate on, {self.validation.num_empty} without"
        )


def slice_sources(
    *,
    store: Store,
    records: Mapping[str, CaseRecord],
    cases: Split,
    plan: Plan,
    train: TrainConfig,
    augment: AugmentConfig,
    task: Literal["prompted", "automatic"],
) -> SliceSources:
    """The slices of a fold.

    A learned label map must know slices without a label and is scored on all of them; a prompted mask is asked for
    where there is one. `train.empty_slices` decides otherwise for the training.

    Args:
        store, records: the preprocessed cases.
        cases: the fold.
        plan: the plan they were preprocessed by.
        train, augment: the run's.
        task: of the method's first stage.

    Raises:
        DataError: no slice is labelled.
    """
    usual = None if task == "automatic" else 0.0
    return SliceSources(
        train=SliceSource(
            store=store,
            records=records,
            cases=cases.train,
            plan=plan,
            augment=augment,
            empty_fraction=usual if train.empty_slices is None else train.empty_slices,
        ),
        validation=SliceSource(store=store, records=records, cases=cases.validation, plan=plan, empty_fraction=usual),
    )
