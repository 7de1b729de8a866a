"""Which windows of a fold's volumes are trained on and validated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.splits import Split
from medmoe_cli.core.data.store import CaseRecord, Store
from medmoe_cli.core.data.volume_source import VolumeSource


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSources:
    """A fold's windows; those to train on are moved about their objects and augmented."""

    train: VolumeSource
    validation: VolumeSource

    @property
    def line(self) -> str:
        """For the log."""
        crumbs = self.train.num_left_out + self.validation.num_left_out
        left_out = f"; {crumbs} objects of a few voxels are left out" if crumbs else ""
        return (
            f"{len(self.train)} windows to train on, one for each class of each case; "
            f"{len(self.validation)} to validate on{left_out}"
        )


def volume_sources(
    *, store: Store, records: Mapping[str, CaseRecord], cases: Split, plan: Plan, augment: AugmentConfig
) -> VolumeSources:
    """The windows of a fold.

    Args:
        store, records: the preprocessed cases.
        cases: the fold.
        plan: the plan they were preprocessed by.
        augment: the run's.

    Raises:
        DataError: no case has a labelled object.
    """
    return VolumeSources(
        train=VolumeSource(store=store, records=records, cases=cases.train, plan=plan, augment=augment),
        validation=VolumeSource(store=store, records=records, cases=cases.validation, plan=plan),
    )
