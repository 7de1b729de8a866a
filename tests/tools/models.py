"""Small models without training, for tests of what surrounds a model."""

from __future__ import annotations

from pathlib import Path

import torch

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import load_preset, resolve
from medmoe_cli.core.models.registry import method
from medmoe_cli.core.workflows.model_folder import LoadedModel, save_model
from tests.tools.oracle import oracle_plan


def untrained_model(folder: Path, *, labels: dict[str, int], plan: Plan | None = None, seed: int = 0) -> Path:
    """A segmote-tiny with random weights as a model folder; its masks mean nothing and are always the same."""
    plan = plan or oracle_plan(labels=labels)
    plan = plan.model_copy(update={"method": "segmote", "preset": "segmote-tiny"})
    found = method("segmote")
    resolved = resolve(
        load_preset("segmote-tiny"), found.config_class(), assignments=["model.depth=2", "model.width=48"]
    )
    torch.manual_seed(seed)
    segmenter = found.build(resolved.model, plan).eval()
    loaded = LoadedModel(
        segmenter=segmenter,
        plan=plan,
        card=found.card,
        config=resolved.model,
        predict=resolved.predict,
        class_names=plan.class_names,
        source=folder,
        sha256="",
    )
    return save_model(loaded, folder)
