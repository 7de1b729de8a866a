"""Which sample comes when: a pure function of the run's seed and the step, the same for any number of workers.

Samples with weights are drawn by systematic sampling: in an epoch of N draws a sample of probability w comes floor(N w)
or ceil(N w) times, N w on average over the epochs, and no sample's luck is another's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.seeds import generator


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to load: its index, the epoch, and which time it is drawn in that epoch, counted from 0."""

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
        weights: (num_samples,) probability of each sample at every draw; None to draw each once an epoch.
    """

    num_samples: int
    batch_size: int
    seed: int
    num_replicas: int = 1
    rank: int = 0
    weights: NDArray[np.float64] | None = field(default=None, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of as many draws as there are samples; the last batch may be smaller."""
        return math.ceil(self.num_samples / (self.batch_size * self.num_replicas))

    def batch(self, step: int) -> list[Draw]:
        """What this device loads at `step` (counted from 0 over the whole run).

        With several devices the epoch is filled up with its first samples, so that each has as many.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order, repeats = self._epoch(epoch)
        missing = -self.num_samples % self.num_replicas
        if missing:
            order = np.concatenate([order, np.resize(order, missing)])
            repeats = np.concatenate([repeats, np.resize(repeats, missing) + repeats.max() + 1])
        together = self.batch_size * self.num_replicas
        chosen = order[position * together : (position + 1) * together]
        first = position * together
        return [
            Draw(index=int(chosen[place]), epoch=epoch, repeat=int(repeats[first + place]))
            for place in range(self.rank, len(chosen), self.num_replicas)
        ]

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Samples in the order of an epoch, and which time each is drawn in it."""
        rng = generator(self.seed, "order", epoch)
        if self.weights is None:
            return rng.permutation(self.num_samples), np.zeros(self.num_samples, np.int64)
        ends = np.cumsum(self.weights) * self.num_samples
        ends[-1] = self.num_samples
        counts = np.diff(np.floor(ends + generator(self.seed, "draws", epoch).random()), prepend=0).astype(np.int64)
        drawn = np.repeat(np.arange(self.num_samples), counts)
        repeats = np.arange(len(drawn)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = rng.permutation(len(drawn))
        return drawn[order], repeats[order]

    def batches(self, start: int, end: int) -> Iterator[list[Draw]]:
        """The batches of steps start..end-1."""
        for step in range(start, end):
            yield self.batch(step)
