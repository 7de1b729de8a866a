"""Rules applied to a predicted label map, learned from training labels and kept with the model as JSON."""

from __future__ import annotations

from typing import Literal

from medmoe_cli.core.config.sections import Section


class PostRule(Section):
    """One rule for one class.

    Attributes:
        label: the class's name.
        keep: 'largest': only its largest connected component stays; the others become background.
        reason: in one line, what the training labels and validation masks said.
    """

    label: str
    keep: Literal["largest"]
    reason: str


class Postprocessing(Section):
    """`postprocessing.json` of a run; part of `model.json` in a shared model. No rule: nothing is changed."""

    schema_version: int = 1
    rules: tuple[PostRule, ...] = ()
