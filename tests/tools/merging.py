"""A workspace with a small general model, experts that started from it, and phantom datasets that they know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.models.sam_med3d_moe.card import CARD
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.workflows.merging.options import MergeOptions, MergeResult, NamedExpert
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, save_model
from tests.tools.datasets import make_dataset
from tests.tools.sam_med3d import small_expert, small_model, volume_plan

SPACING = (2.0, 2.0, 2.0)
FEW_STEPS = ("train.warmup_steps=1", "model.correction_rounds=1")


def make_workspace(root: Path, datasets: Mapping[str, Sequence[str]], *, cases: int = 5) -> Workspace:
    """A workspace with a phantom dataset for each name, with these classes."""
    for seed, (name, classes) in enumerate(datasets.items()):
        make_dataset(
            root / "datasets" / name,
            cases=cases,
            shape=(24, 22, 20),
            class_names=classes,
            classes=len(classes),
            seed=seed,
            spacing_mm=SPACING,
        )
    return Workspace(root=root, origin="test")


def merging_plan(dataset: str, labels: Sequence[str], **values: Any) -> Plan:
    """The plan of a model that was trained on a dataset of `make_workspace`."""
    channels = (ChannelPlan(name="channel0", normalization="zscore"),)
    update = {"dataset": dataset, "spacing_mm": SPACING, "channels": channels, "batch_size": 2, **values}
    return volume_plan(labels=labels).model_copy(update=update)


def put_model(folder: Path, segmenter: SamMed3dMoe, plan: Plan) -> Path:
    """The model as a shared folder."""
    loaded = LoadedModel(
        segmenter=segmenter.eval(),
        plan=plan,
        card=CARD,
        config=segmenter.config,
        predict=PredictConfig(),
        class_names=plan.class_names,
        source=folder,
        sha256="0" * 64,
    )
    return save_model(loaded, folder)


def general_model(plan: Plan, **keys: object) -> SamMed3dMoe:
    """A small general model."""
    return small_model(plan=plan, **keys)


def expert_model(general: SamMed3dMoe, plan: Plan, *, seed: int, **keys: object) -> SamMed3dMoe:
    """An expert whose decoder has moved away from the general one's."""
    expert = small_expert(general, plan=plan, seed=seed, **keys)
    move_decoder(expert, seed=seed)
    return expert


@torch.no_grad()
def move_decoder(model: SamMed3dMoe, *, seed: int) -> None:
    """Change every number of the decoder a little."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.mask_decoder.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def standard_workspace(root: Path, *, experts: Sequence[str] = ("lungs",), cases: int = 5) -> Workspace:
    """Datasets 'hearts' (general) and one per expert, and in models/ 'base' and one model per expert."""
    workspace = make_workspace(
        root, {"hearts": ("heart",), **{name: (f"{name} part",) for name in experts}}, cases=cases
    )
    plan = merging_plan("hearts", ("heart",))
    general = general_model(plan)
    put_model(workspace.models / "base", general, plan)
    for seed, name in enumerate(experts, start=1):
        own = merging_plan(name, (f"{name} part",))
        put_model(workspace.models / f"{name}-model", expert_model(general, own, seed=seed), own)
    return workspace


def options(*experts: str, output: Path | None = None, steps: int = 2, **values: Any) -> MergeOptions:
    """Merging the experts of `standard_workspace`."""
    made = MergeOptions(
        general=None if values.get("into") else "base",
        experts=tuple(NamedExpert(name=name, model=f"{name}-model") for name in experts),
        output=output,
        steps=steps,
        device="cpu",
        assignments=FEW_STEPS,
    )
    return replace(made, **values)


def merge(workspace: Workspace, wanted: MergeOptions, reporter: Silent | None = None) -> MergeResult:
    """Merge in this process, on one thread."""
    from medmoe_cli.core.workflows.merge_experts import run_merge_experts

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_merge_experts(workspace=workspace, options=wanted, reporter=reporter or Silent())
    finally:
        torch.set_num_threads(threads)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Equal names and equal bytes."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
