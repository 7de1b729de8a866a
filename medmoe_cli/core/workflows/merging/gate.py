"""The gate's training: the engine's, on a merged model whose earlier experts stay on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import InterruptedRun
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.config.merge_report import GENERAL, GateTraining
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.distributed import start_fabric
from medmoe_cli.core.engine.job import Job
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.trainer import Trainer
from medmoe_cli.core.models.sam_med3d_moe.merging import grow_gate
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.weights import load_into, load_tensors
from medmoe_cli.core.workflows.merging.assembly import Assembly
from medmoe_cli.core.workflows.merging.data import MergeData

_GATE = "gate."


def gate_model(assembly: Assembly) -> SamMed3dMoe:
    """The merged model as its gate trains: earlier experts' decoders are neither built nor read.

    Where the gate opens one of them the general decoder's answer stands, and the owner loss alone teaches.
    """
    torch.manual_seed(derive_seed(assembly.resolved.train.seed, "init"))
    model = SamMed3dMoe.build(assembly.config, assembly.plan, restore=True, loaded=tuple(assembly.added))
    tensors = assembly.added_tensors()
    if assembly.gate is not None:
        tensors.update(grow_gate(assembly.gate, experts=len(assembly.added)))
    load_into(model, tensors, where="the merged models")
    return model


def train_gate(
    assembly: Assembly, data: MergeData, *, compute: Compute, work: Path, features: Path, reporter: Reporter
) -> tuple[dict[str, Tensor], GateTraining]:
    """Teach the gate whose task a query is; its tensors, and how it went.

    Args:
        assembly: the parts.
        data: its `training` samples.
        compute: device and precision.
        work: a folder of its own, removed at the end.
        features: where the frozen encoder's features are cached.
        reporter: receives progress.

    Raises:
        InterruptedRun: a signal; nothing is left.
    """
    train = assembly.resolved.train
    model = gate_model(assembly)
    values = tuple(task.value for task in data.tasks)
    try:
        with StopFlag() as stop:
            fabric = start_fabric(compute, num_devices=1)
            job = Job(
                segmenter=model,
                train=data.training,
                validation=None,
                config=train,
                batch_size=assembly.plan.batch_size,
                values=values,
                class_names=tuple(f"{task.dataset}: {task.class_name}" for task in data.tasks),
                folder=work,
                identity={"inputs": data.content, "model": value_sha256(assembly.config)},
                preprocessing_key=value_sha256(
                    assembly.plan.model_dump(include={"input_size", "spacing_mm", "channels"})
                ),
                features=features,
                resume_command="run the same command again; nothing was written",
                after_epoch=_nothing,
            )
            trained = Trainer(job, fabric=fabric, compute=compute, reporter=reporter, stop=stop).run()
        tensors = load_tensors(trained.last / "model.safetensors")
        loss = _last_losses(work / "log.jsonl")
    except InterruptedRun as error:
        raise InterruptedRun(
            "interrupted while the gate trained, nothing was written",
            signal_number=error.exit_code - 128,
            fix="run the same command again; encoded features are kept",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    training = GateTraining(
        steps=trained.steps,
        learning_rate=assembly.config.gate_learning_rate,
        seed=train.seed,
        grown_from=len(assembly.kept),
        samples=_samples(data),
        loss=loss,
    )
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_GATE)}, training


def work_folder(target: Path) -> Path:
    """Where the training of a model at `target` works; what killed ones left beside it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.sweep(target.parent)
    return atomic.temporary_sibling(target.with_name(f"{target.name}-gate"))


def _samples(data: MergeData) -> dict[str, int]:
    found: dict[str, int] = {GENERAL: 0}
    for one in data.facts:
        found[one.owner] = found.get(one.owner, 0) + one.training
    return found


def _last_losses(log: Path) -> dict[str, float]:
    """Of the log's last line of an epoch."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    epochs = [line for line in lines if line.get("kind") == "epoch"]
    losses = epochs[-1]["losses"] if epochs else {}
    return {name: float(value) for name, value in losses.items() if name != "grad_norm"}


def _nothing() -> None:
    """Nothing to redraw."""
