"""Small trainings of the tiny test segmenter, in this process or in a forked one that may be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.sections import TrainConfig
from medmoe_cli.core.engine.checkpoint import Checkpoints
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.distributed import start_fabric
from medmoe_cli.core.engine.job import Job, Trained
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.trainer import Trainer
from medmoe_cli.core.imaging.sample import SampleSource
from medmoe_cli.core.nn.segmenter import Segmenter, Stage
from tests.tools.tiny_segmenter import PROMPTED, DiscSource, TinySegmenter


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A small training: 10 samples in batches of 4 make 3 steps per epoch, the last of 2 samples."""

    stages: tuple[Stage, ...] = (PROMPTED,)
    train: SampleSource = field(default_factory=lambda: DiscSource(10))
    validation: SampleSource | None = field(default_factory=lambda: DiscSource(4, seed=1, prefix="val"))
    config: Mapping[str, Any] = field(default_factory=dict)
    features: Path | None = None
    identity: Mapping[str, str] = field(default_factory=lambda: {"data": "discs"})
    precision: str = "32"
    build: Callable[..., Segmenter] = TinySegmenter
    prepare: Callable[[Segmenter], None] = lambda segmenter: None

    def having(self, **config: Any) -> Recipe:
        """The same with other training values."""
        return replace(self, config={**self.config, **config})


def run(folder: Path, recipe: Recipe, *, resume: bool = False, reporter: Silent | None = None) -> Trained:
    """Train in this process, on one thread: sums in another order would differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(folder, recipe, resume=resume, reporter=reporter)
    finally:
        torch.set_num_threads(threads)


def _run(folder: Path, recipe: Recipe, *, resume: bool, reporter: Silent | None) -> Trained:
    torch.manual_seed(0)
    reporter = reporter or Silent()
    compute = resolve_compute("cpu", recipe.precision)
    fabric = start_fabric(compute, num_devices=1)
    segmenter = recipe.build(stages=recipe.stages)
    recipe.prepare(segmenter)
    config = TrainConfig(**{"epochs": 3, "learning_rate": 1e-2, "workers": 0, **recipe.config})
    job = Job(
        segmenter=segmenter,
        train=recipe.train,
        validation=recipe.validation,
        config=config,
        batch_size=4,
        values=(1, 2),
        class_names=("a", "b"),
        folder=folder,
        identity={
            **recipe.identity,
            "train.learning_rate": str(config.learning_rate),
            "train.epochs": str(config.epochs),
        },
        preprocessing_key="discs",
        features=recipe.features,
        resume_command="medmoe train --resume",
        after_epoch=lambda: None,
    )
    checkpoint = Checkpoints(folder / "checkpoints", keep=2).latest(reporter) if resume else None
    with StopFlag() as stop:
        trainer = Trainer(job, fabric=fabric, compute=compute, reporter=reporter, stop=stop)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        return trainer.run()


def digest(trained: Trained) -> dict[str, str]:
    """sha256 of the last checkpoint's tensors."""
    return {name: file_sha256(trained.last / name) for name in ("model.safetensors", "optimizer.safetensors")}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the machine."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "machine"} for record in records]


def start(folder: Path, recipe: Recipe, *, resume: bool = False, failpoint: str | None = None) -> Any:
    """Train in a forked process, which exits with the code that the command would have."""

    def target() -> None:
        os.setpgid(0, 0)  # a group of its own, so that it can be signalled with its workers
        torch.set_num_threads(1)
        if failpoint is not None:
            os.environ["MEDMOE_FAILPOINT"] = failpoint
        code = 0
        try:
            run(folder, recipe, resume=resume)
        except MedMoEError as error:
            (folder / "error.txt").write_text(error.line())
            code = error.exit_code
        finally:
            os._exit(code if code else 0)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    return process


def wait(process: Any, *, seconds: float = 60) -> int:
    """Its exit code (negative: the signal that killed it)."""
    end = time.monotonic() + seconds
    while process.exitcode is None:  # join() would wait for the workers of a killed parent too
        if time.monotonic() > end:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            raise AssertionError(f"the training did not end within {seconds} s")
        time.sleep(0.01)
    return int(process.exitcode)


def when(condition: Callable[[], bool], process: Any, *, seconds: float = 60) -> None:
    """Wait for something the training does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or not process.is_alive():
            raise AssertionError("the training ended before it was interrupted")
        time.sleep(0.002)
