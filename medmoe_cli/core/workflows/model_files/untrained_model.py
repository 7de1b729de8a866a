"""An added backbone as a model: public weights that answer prompts without training."""

from __future__ import annotations

from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.config.backbones import RECORD_FILE, read_record
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.models.registry import Method, Untrained, method_names
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.nn.backbones import load_backbone
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel


def untrained_model(folder: Path) -> LoadedModel:
    """The model that a backbone's folder makes.

    Raises:
        CheckpointError: it is damaged, or has to be trained before it answers.
    """
    method, made = _answering(folder)
    record = read_record(folder)
    segmenter = method.build(made.config, made.plan, backbone=load_backbone(folder))
    return LoadedModel(
        segmenter=segmenter.eval(),
        plan=made.plan,
        card=method.card,
        config=made.config,
        predict=PredictConfig(),
        class_names=(),
        source=folder,
        sha256=record.tensors_sha256,
    )


def _answering(folder: Path) -> tuple[Method, Untrained]:
    """The method that makes the backbone answer, and how."""
    architecture = str(jsonio.read(folder / RECORD_FILE).get("architecture"))
    for method_name in method_names():
        method = find_method(method_name)
        made = method.untrained(architecture, name=folder.name)
        if made is not None:
            return method, made
    raise CheckpointError(
        "not a trained model",
        where=folder,
        why=f"{RECORD_FILE} says kind 'backbone', and {architecture} answers nothing before it is trained",
        fix="medmoe models list, or train one: medmoe train --method METHOD --data NAME",
    )
