"""A model in memory, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.sections import PredictConfig, Section
from medmoe_cli.core.nn.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model, trained or as its public weights are, ready to answer.

    Attributes:
        segmenter: on the CPU, in evaluation mode.
        plan: of the data it was trained on; without labels where prompts are to name the classes.
        card: its method's.
        config: its `model` section.
        predict: inference values stored with it.
        class_names: in label order.
        source: the folder its weights came from.
        sha256: of the weights file, of all of them where there are several.
        postprocessing: rules that its training learned for the masks it makes by itself.
    """

    segmenter: Segmenter
    plan: Plan
    card: Card
    config: Section
    predict: PredictConfig
    class_names: tuple[str, ...]
    source: Path
    sha256: str
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
