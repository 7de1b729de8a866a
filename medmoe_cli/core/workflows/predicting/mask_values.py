"""What the values of somebody's masks mean to a model: the same names are the same classes, whatever their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.vocabulary import match_names
from medmoe_cli.core.workflows.scoring.evaluation_labels import find_label_names


def mask_values(folder: Path, plan: Plan) -> Mapping[int, int]:
    """Value in the masks to the model's own; 0 for what masks name and the model does not know.

    A dataset.json in or beside the folder that names any of the model's classes says which value is which: a merged
    model numbers its classes otherwise than the datasets that its experts were trained on. Without one values are
    taken for the model's.

    Raises:
        DataError: the dataset.json cannot be used.
    """
    own = {file_value: value for value, file_value in plan.file_values.items()}
    found = find_label_names(None, [folder])
    single = {scored.name: scored.values[0] for scored in found.classes or () if len(scored.values) == 1}
    meant = match_names(
        tuple(single), plan.class_names, members={member.dataset: member.classes for member in plan.members}
    )
    if not meant:
        return own
    named = {value: plan.labels[meant[name]] if name in meant else 0 for name, value in single.items()}
    return named if found.ignore is None else {**named, found.ignore: 0}
