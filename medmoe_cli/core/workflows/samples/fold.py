"""The samples of one fold: the source that the dataset's kind calls for, and how often each sample is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import Resolved
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.splits import Split
from medmoe_cli.core.imaging.sample import SampleSource
from medmoe_cli.core.nn.segmenter import Stage
from medmoe_cli.core.workflows.preprocess import Ready
from medmoe_cli.core.workflows.samples.absent_draws import absent_weights
from medmoe_cli.core.workflows.samples.collections import CollectionSources, collection_sources
from medmoe_cli.core.workflows.samples.slices import SliceSources, slice_sources
from medmoe_cli.core.workflows.samples.volumes import VolumeSources, volume_sources


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldSamples:
    """What a fold trains and is validated on.

    Attributes:
        train, validation: the samples.
        split: their cases.
        content: changes with what was preprocessed.
        draw_weights: probability of each training sample at every draw; None to draw all alike.
        line: what there is, in words.
    """

    train: SampleSource
    validation: SampleSource
    split: Split
    content: str
    draw_weights: NDArray[np.float64] | None = None
    line: str = ""


def fold_samples(
    *, dataset: Dataset, plan: Plan, resolved: Resolved, ready: Ready, cases: Split, stage: Stage
) -> FoldSamples:
    """The samples of a fold.

    Args:
        dataset: of the training; a collection draws from its members.
        plan: for slices, or for volumes.
        resolved: how it is drawn and augmented.
        ready: what has been preprocessed.
        cases: of the fold.
        stage: the training's first.
    """
    sources = _sources(dataset=dataset, plan=plan, resolved=resolved, ready=ready, cases=cases, stage=stage)
    values = tuple(plan.labels.values())
    return FoldSamples(
        train=sources.train,
        validation=sources.validation,
        split=cases,
        content=ready.content,
        draw_weights=sources.weights
        if isinstance(sources, CollectionSources)
        else absent_weights(sources.train, values, share=stage.absent_share),
        line=sources.line,
    )


def _sources(
    *, dataset: Dataset, plan: Plan, resolved: Resolved, ready: Ready, cases: Split, stage: Stage
) -> SliceSources | VolumeSources | CollectionSources:
    if dataset.members:
        return collection_sources(
            dataset=dataset,
            plan=plan,
            ready=ready,
            cases=cases,
            train=resolved.train,
            augment=resolved.augment,
            task=stage.task,
        )
    if plan.dims == 3:
        return volume_sources(
            store=ready.store, records=ready.records, cases=cases, plan=plan, augment=resolved.augment
        )
    return slice_sources(
        store=ready.store,
        records=ready.records,
        cases=cases,
        plan=plan,
        train=resolved.train,
        augment=resolved.augment,
        task=stage.task,
    )
