"""`python -m tests.tools.train_distributed FOLDER`: two processes on the CPU train the tiny segmenter together."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.sections import TrainConfig
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.distributed import start_fabric
from medmoe_cli.core.engine.job import Job
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.trainer import Trainer
from tests.tools.tiny_segmenter import DiscSource, TinySegmenter


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    compute = resolve_compute("cpu", "32")
    fabric = start_fabric(compute, num_devices=2)
    job = Job(
        segmenter=TinySegmenter(),
        train=DiscSource(9),
        validation=DiscSource(4, seed=1, prefix="val"),
        config=TrainConfig(epochs=2, learning_rate=1e-2, workers=0),
        batch_size=2,
        values=(1, 2),
        class_names=("a", "b"),
        folder=folder,
        identity={},
        preprocessing_key="discs",
        features=None,
        resume_command="",
        after_epoch=lambda: None,
    )
    with StopFlag() as stop:
        trained = Trainer(job, fabric=fabric, compute=compute, reporter=Silent(), stop=stop).run()
    weights = torch.cat([parameter.flatten() for parameter in job.segmenter.parameters()])
    (folder / f"rank-{fabric.global_rank}.txt").write_text(f"{trained.steps} {weights.double().sum().item()!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
