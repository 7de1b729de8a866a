"""Class names for a model that knows none: those of the prompts, or of the masks that prompts are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel
from medmoe_cli.core.workflows.predicting.scans import find_scans
from medmoe_cli.core.workflows.scoring.evaluation_labels import find_label_names


def with_labels(
    model: LoadedModel, *, prompts: PromptsFile | None, masks: Path | None, texts: Sequence[str] = ()
) -> LoadedModel:
    """The model with names for what it is asked for; one that has classes of its own stays as it is.

    Args:
        model: as it was loaded.
        prompts: its labels are numbered in the order in which they first appear.
        masks: a folder; named by the dataset.json in or beside it, else by their values.
        texts: what to look for; names labels of its own where the model takes any words.

    Raises:
        ConfigError: none of them is given.
        DataError: the masks cannot be read, or hold nothing.
    """
    if model.plan.labels or (model.segmenter.open_vocabulary and (texts or _all_texts(prompts))):
        return model
    if prompts is not None:
        names = dict.fromkeys(entry.name for entries in prompts.cases.values() for entry in entries)
        values: Mapping[str, int] = {name: number for number, name in enumerate(names, start=1)}
    elif masks is not None:
        values = _of_masks(masks)
    elif model.segmenter.open_vocabulary:
        raise ConfigError(
            "this model needs to be told what to look for",
            where=model.source,
            why="it was not trained on classes, and takes any words",
            fix='add --text "left kidney"',
        )
    else:
        raise ConfigError(
            "this model needs prompts",
            where=model.source,
            why="a general expert finds what a point, box or mask shows it, and knows no classes by name",
            fix="add --prompts prompts.json, or --prompts-from MASKS",
        )
    labels = {name: number for number, name in enumerate(values, start=1)}
    changes = {"labels": labels, "file_labels": values, "binary": len(labels) == 1}
    plan = model.plan.model_copy(update=changes)
    return replace(model, plan=plan, class_names=plan.class_names)


def _all_texts(prompts: PromptsFile | None) -> bool:
    """A prompts file that asks for everything by words."""
    return prompts is not None and all(entry.text for entries in prompts.cases.values() for entry in entries)


def _of_masks(folder: Path) -> Mapping[str, int]:
    """Names to values, in order of the values."""
    named = find_label_names(None, [folder]).classes
    if named is not None:
        found = {scored.values[0]: scored.name for scored in named if len(scored.values) == 1}
    else:
        found = {}
        for scan in find_scans(folder, num_channels=1):
            found |= {int(value): str(value) for value in np.unique(read_labels(scan.files[0]).data) if value}
    if not found:
        raise DataError("masks without a structure", where=folder, why="every value is 0", fix="give other masks")
    return {found[value]: value for value in sorted(found)}
