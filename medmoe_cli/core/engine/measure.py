"""What one training step takes, measured on made-up images of the planned size: for `--dry-run`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric

from medmoe_cli.core.engine import optim
from medmoe_cli.core.engine.batch import Item, join
from medmoe_cli.core.engine.job import Job
from medmoe_cli.core.engine.loader import DrawDataset
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.record import rss_mb
from medmoe_cli.core.engine.samples import training_samples
from medmoe_cli.core.engine.step import Carrier, StepModule
from medmoe_cli.core.imaging.sample import Sample

_REPEATS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One training step.

    Attributes:
        seconds: of one step, encoding included, loading not.
        memory_mb: peak GPU memory, or the process's memory on a CPU.
        device: what it was measured on.
    """

    seconds: float
    memory_mb: int
    device: str


class MadeUp:
    """Noise with one disc per class, shaped like the plan's samples."""

    def __init__(self, *, num_samples: int, num_channels: int, shape: tuple[int, ...], values: tuple[int, ...]) -> None:
        self._num_samples, self._num_channels, self._shape, self._values = num_samples, num_channels, shape, values

    def __len__(self) -> int:
        """Number of samples."""
        return self._num_samples

    def key(self, index: int) -> str:
        """A name."""
        return f"made-up:{index}"

    def classes(self, index: int) -> tuple[int, ...]:
        """All classes."""
        return self._values

    def load(self, index: int, *, seed: int | None) -> Sample:
        """The same image for every seed."""
        rng = np.random.default_rng(index)
        image = rng.random((self._num_channels, *self._shape), dtype=np.float32)
        label = np.zeros(self._shape, np.int32)
        place = np.indices(self._shape)
        radius = max(2, self._shape[-1] // 12)
        for value in self._values:
            centre = [rng.integers(radius, side - radius) for side in self._shape]
            distance = sum((axis - middle) ** 2 for axis, middle in zip(place, centre, strict=True))
            label[distance < radius**2] = value
        return Sample(image=image, label=label, valid=np.ones(self._shape, bool), case_id="made-up", index=index)


def measure_step(job: Job, *, fabric: Fabric) -> StepCost:
    """Time forward, backward and update of the first stage on the job's training samples; the weights are spent.

    Args:
        job: with a `MadeUp` source, or a real one.
        fabric: launched.
    """
    stage = job.segmenter.stages()[0]
    job.segmenter.to(fabric.device)
    parameters = optim.apply_stage(job.segmenter, stage)
    optimizer = optim.build_optimizer(job.config, parameters, learning_rate=job.config.learning_rate)
    module, wrapped = fabric.setup(StepModule(job.segmenter, stage), optimizer)
    dataset = DrawDataset(training_samples(job, stage, None))
    items = [dataset[Draw(index=index % len(job.train), epoch=0, repeat=0)] for index in range(job.batch_size)]
    batch = join([item for item in items if isinstance(item, Item)])
    cuda = fabric.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(fabric.device)
    seconds = []
    for _ in range(_REPEATS):  # the first one allocates
        started = time.monotonic()
        fabric.backward(module(Carrier(batch)).total)
        wrapped.step()
        wrapped.zero_grad()
        if cuda:
            torch.cuda.synchronize(fabric.device)
        seconds.append(time.monotonic() - started)
    memory = round(torch.cuda.max_memory_allocated(fabric.device) / 2**20) if cuda else rss_mb()
    return StepCost(seconds=round(min(seconds), 4), memory_mb=memory, device=str(fabric.device))
