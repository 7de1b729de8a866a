"""Small models without training, for tests of what surrounds a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.presets import load_preset, resolve
from medmoe_cli.core.models.registry import method
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, save_model
from tests.tools.oracle import oracle_plan


def untrained_model(
    folder: Path,
    *,
    labels: dict[str, int],
    plan: Plan | None = None,
    seed: int = 0,
    preset: str = "segmote-tiny",
    settings: Sequence[str] = (),
    rules: Postprocessing | None = None,
) -> Path:
    """A tiny model with random weights as a model folder; its masks mean nothing and are always the same."""
    loaded = untrained(folder, labels=labels, plan=plan, seed=seed, preset=preset, settings=settings, rules=rules)
    return save_model(loaded, folder)


def untrained(
    source: Path,
    *,
    labels: dict[str, int],
    plan: Plan | None = None,
    seed: int = 0,
    preset: str = "segmote-tiny",
    settings: Sequence[str] = (),
    rules: Postprocessing | None = None,
) -> LoadedModel:
    """The same in memory; its sha256 says the seed."""
    plan = plan or oracle_plan(labels=labels)
    read = load_preset(preset)
    plan = plan.model_copy(update={"method": read.method, "preset": preset})
    found = method(read.method)
    assignments = ["model.depth=2", "model.width=48", *settings]
    if read.method == "moe-sam":
        assignments = ["model.depth=2", "model.width=32", "model.expert_width=16", *settings]
    resolved = resolve(read, found.config_class(), assignments=assignments)
    torch.manual_seed(seed)
    segmenter = found.build(resolved.model, plan).eval()
    return LoadedModel(
        segmenter=segmenter,
        plan=plan,
        card=found.card,
        config=resolved.model,
        predict=resolved.predict,
        class_names=plan.class_names,
        source=source,
        sha256=f"{seed:064d}",
        postprocessing=rules or Postprocessing(),
    )
