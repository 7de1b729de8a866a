"""Loading: draws to batches, in this process or in workers, with the same result.

Everything random in a draw comes from hash(run seed, epoch, sample, repeat), so neither the number of workers nor an
interruption changes what is loaded.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from medmoe_cli.core.base.errors import MedMoEError, ResourceError
from medmoe_cli.core.base.seeds import derive_seed, generator
from medmoe_cli.core.engine import signals
from medmoe_cli.core.engine.batch import Batch, Item, Query, join
from medmoe_cli.core.engine.feature_cache import FeatureCache
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.prompting import PromptChooser
from medmoe_cli.core.imaging.sample import Sample, SampleSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """How samples become queries.

    Attributes:
        source: where they come from.
        values: label values in class order; position i is class i.
        seed: the run's.
        max_queries: masks asked for per image; None: every class present.
        choosers: of first prompts: one in training, one per prompt kind in validation, none for the automatic task.
        cache: features of a frozen encoder instead of images.
        augment: off for validation and cached features.
        absent_share: share of an image's queries that ask by name for a class that is not there.
        all_absent: ask for every absent class, whatever their share; for validation.
    """

    source: SampleSource
    values: tuple[int, ...]
    seed: int
    max_queries: int | None
    choosers: tuple[PromptChooser, ...]
    cache: FeatureCache | None
    augment: bool
    absent_share: float = 0.0
    all_absent: bool = False

    @property
    def asks_absent(self) -> bool:
        """True when queries may name what is not there; a box or a point cannot."""
        named = bool(self.choosers) and all(chooser.text_only for chooser in self.choosers)
        return named and (self.all_absent or self.absent_share > 0)


class DrawDataset(Dataset[Item | MedMoEError]):
    """Makes an item of a draw. A user's error is returned, not raised: torch would wrap it into a traceback."""

    def __init__(self, loading: Loading) -> None:
        self.loading = loading

    def __getitem__(self, draw: Draw) -> Item | MedMoEError:
        """Load one draw."""
        try:
            return self._item(draw)
        except MedMoEError as error:
            return error

    def _item(self, draw: Draw) -> Item:
        what = self.loading
        key = what.source.key(draw.index)
        base = derive_seed(what.seed, draw.epoch, key, draw.repeat)
        sample = what.source.load(draw.index, seed=derive_seed(base, "augment") if what.augment else None)
        if sample.copy:
            base = derive_seed(base, "copy", sample.copy)
        label = _class_positions(sample, what.values)
        present = _present(label, sample, what.values)
        if what.augment and not present and what.source.classes(draw.index):
            # The augmentation moved everything out of sight: take the image as it is.
            sample = what.source.load(draw.index, seed=None)
            label = _class_positions(sample, what.values)
            present = _present(label, sample, what.values)
        return Item(
            key=key,
            image=None if what.cache is not None else np.ascontiguousarray(sample.image, dtype=np.float32),
            maps=None if what.cache is None else what.cache.read(key),
            label=label,
            valid=sample.valid,
            queries=self._queries(label, sample.valid, present, _absent(label, sample, what.values), base),
            finite=bool(np.isfinite(sample.image).all()),
            owner=sample.owner,
            known=None if sample.known is None else np.isin(what.values, sample.known),
        )

    def _queries(
        self,
        label: NDArray[np.int64],
        valid: NDArray[np.bool_],
        present: Sequence[int],
        absent: Sequence[int],
        base: int,
    ) -> tuple[Query, ...]:
        what = self.loading
        if not what.choosers:
            return ()
        queries = []
        for position in self._asked(present, absent if what.asks_absent else (), base):
            mask = (label == position + 1) & valid
            prompts = tuple(
                chooser.first(mask, class_index=position, rng=generator(base, "prompt", position))
                for chooser in what.choosers
            )
            queries.append(
                Query(
                    value=what.values[position], mask=mask, prompts=prompts, seed=derive_seed(base, "clicks", position)
                )
            )
        return tuple(queries)

    def _asked(self, present: Sequence[int], absent: Sequence[int], base: int) -> list[int]:
        """Which classes to ask for: those that are there, and the share of those that are not."""
        what = self.loading
        most = what.max_queries
        if what.all_absent or not absent:
            return sorted([*_some(present, most, base, "classes"), *absent])
        # With enough of both, each query asks for something absent with the same probability.
        wanted = len(present) if most is None else most
        num_absent = int(generator(base, "absent").binomial(max(wanted, 1), what.absent_share))
        if not present:
            num_absent = max(num_absent, 1)
        num_absent = min(num_absent, len(absent))
        shown = _some(present, max(wanted - num_absent, 1), base, "classes")
        return sorted([*shown, *_some(absent, num_absent, base, "absent classes")])


def _some(positions: Sequence[int], most: int | None, base: int, what: str) -> list[int]:
    """All of them, or as many as wanted, drawn."""
    if most is None or len(positions) <= most:
        return list(positions)
    return sorted(generator(base, what).choice(list(positions), most, replace=False).tolist())


def _collate(items: list[Item | MedMoEError]) -> Batch | MedMoEError:
    for item in items:
        if isinstance(item, MedMoEError):
            return item
    return join([item for item in items if isinstance(item, Item)])


def _start_worker(worker: int) -> None:
    signals.leave_to_parent()
    torch.set_num_threads(1)


class Loader:
    """Iterates over batches; keeps the time spent waiting for them, and which are being loaded."""

    def __init__(self, loading: Loading, draws: Iterable[list[Draw]], *, workers: int) -> None:
        self.waited_s = 0.0
        self._source, self._workers = loading.source, workers
        self._handed_out = _HandedOut(draws)
        self._pids: set[int] = set()
        self._loader: DataLoader[Item | MedMoEError] = DataLoader(
            DrawDataset(loading),
            batch_sampler=self._handed_out,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_start_worker if workers else None,
        )

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order.

        Raises:
            MedMoEError: what a sample's loading raised.
        """
        others = {process.pid for process in multiprocessing.active_children()}
        batches = iter(self._loader)
        self._pids = {process.pid for process in multiprocessing.active_children() if process.pid} - others
        while True:
            started = time.monotonic()
            batch = next(batches, None)
            self.waited_s += time.monotonic() - started
            if batch is None:
                return
            self._handed_out.waiting.popleft()
            if isinstance(batch, MedMoEError):
                raise batch
            yield batch

    @contextmanager
    def dead_workers_explained(self) -> Iterator[None]:
        """Torch reports a dead worker as a RuntimeError anywhere in the main thread: say which and what to do.

        Raises:
            ResourceError: one of this loader's workers died.
        """
        try:
            yield
        except RuntimeError as error:
            dead = {int(number) for number in re.findall(r"\d+", str(error))} & self._pids
            if "DataLoader worker" not in str(error) or not dead:
                raise
            loading = [self._source.key(draw.index) for batch in self._handed_out.waiting for draw in batch]
            raise ResourceError(
                "a loader worker was killed",
                where=f"process {min(dead)}",
                why=f"often out of memory; it was loading one of {', '.join(loading[:8])}",
                fix=f"lower the workers, for instance --set train.workers={self._workers - 1}, and --resume",
            ) from error


class _HandedOut(Sampler[list[Draw]]):
    """Batches of draws in the shape torch asks for; remembers those that have not come back."""

    def __init__(self, draws: Iterable[list[Draw]]) -> None:
        self._draws = draws
        self.waiting: deque[list[Draw]] = deque()

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self._draws:
            self.waiting.append(batch)
            yield batch


def _class_positions(sample: Sample, values: Sequence[int]) -> NDArray[np.int64]:
    """Labels as class positions from 1; values that are no class become background."""
    if sample.label is None:
        return np.zeros(sample.valid.shape, np.int64)
    becomes = np.zeros(int(max(sample.label.max(initial=0), *values)) + 1, np.int64)
    becomes[list(values)] = np.arange(1, len(values) + 1)
    return becomes[sample.label]


def _present(label: NDArray[np.int64], sample: Sample, values: Sequence[int]) -> list[int]:
    """Positions (from 0) of the classes that can be seen and asked for."""
    counts = np.bincount(label[sample.valid], minlength=1)
    seen = [int(position) - 1 for position in np.flatnonzero(counts) if position > 0]
    return seen if sample.asked is None else [position for position in seen if values[position] in sample.asked]


def _absent(label: NDArray[np.int64], sample: Sample, values: Sequence[int]) -> list[int]:
    """Positions (from 0) of the classes that were looked for, may be asked for, and are nowhere in the sample."""
    if sample.label is None:
        return []
    there = set(np.unique(label).tolist())
    return [
        position
        for position, value in enumerate(values)
        if position + 1 not in there
        and (sample.known is None or value in sample.known)
        and (sample.asked is None or value in sample.asked)
    ]
