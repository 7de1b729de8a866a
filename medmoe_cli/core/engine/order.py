"""Which sample comes when: a pure function of the run's seed and the step, the same for any number of workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medmoe_cli.core.base.seeds import generator


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to load: its index, the epoch, and which time it is drawn in that epoch (0 but for fill-ins)."""

    index: int
    epoch: int
    repeat: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The order of a training.

    Attributes:
        num_samples: length of the source.
        batch_size: samples per step and device.
        seed: the run's.
        num_replicas: devices that train together; each takes `batch_size` samples of a step.
        rank: this device's number.
    """

    num_samples: int
    batch_size: int
    seed: int
    num_replicas: int = 1
    rank: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every sample is drawn once; the last batch may be smaller."""
        return math.ceil(self.num_samples / (self.batch_size * self.num_replicas))

    def batch(self, step: int) -> list[Draw]:
        """What this device loads at `step` (counted from 0 over the whole run).

        With several devices the epoch is filled up with its first samples, so that each has as many.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order = generator(self.seed, "order", epoch).permutation(self.num_samples)
        missing = -self.num_samples % self.num_replicas
        order = np.concatenate([order, np.resize(order, missing)]) if missing else order
        together = self.batch_size * self.num_replicas
        chosen = order[position * together : (position + 1) * together]
        first = position * together
        return [
            Draw(index=int(chosen[place]), epoch=epoch, repeat=int(first + place >= self.num_samples))
            for place in range(self.rank, len(chosen), self.num_replicas)
        ]

    def batches(self, start: int, end: int) -> Iterator[list[Draw]]:
        """The batches of steps start..end-1."""
        for step in range(start, end):
            yield self.batch(step)
