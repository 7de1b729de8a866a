"""Several models asked the same about one slice: their answers side by side, and what they say together.

Models may see the scan at different sizes: each is asked in its own input pixels, and what they share are the slice's
own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, correction_click
from medmoe_cli.core.nn.segmenter import Features
from medmoe_cli.core.workflows.predicting.conversation import Conversation, mean_map
from medmoe_cli.core.workflows.predicting.requests import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One model before one scan.

    Attributes:
        prepared: the scan as this model sees it.
        requests: what is asked of it; values number the classes as the whole panel does.
        inference: the model.
        channels: for automatic methods, its output channel of each of the panel's label values, background first;
            None where both number the classes alike.
    """

    prepared: Prepared
    requests: tuple[Request, ...]
    inference: Inference
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One mask of one slice, as each member is asked for it.

    Attributes:
        requests: by member; None where a member is not asked, because on its coarser grid the structure is not there.
    """

    requests: tuple[Request | None, ...]

    @property
    def lead(self) -> int:
        """The first member that is asked."""
        return next(index for index, request in enumerate(self.requests) if request is not None)

    @property
    def first(self) -> Request:
        """The request of the first member that is asked."""
        request = self.requests[self.lead]
        assert request is not None
        return request


def align(members: Sequence[Member]) -> Mapping[int, list[Wanted]]:
    """The members' requests put together by slice; the n-th one for a class on a slice is the same for all."""
    found: dict[tuple[int, int, int], list[Request | None]] = {}
    for number, member in enumerate(members):
        seen: dict[tuple[int, int], int] = {}
        for request in member.requests:
            place = (request.slice_index, request.value)
            seen[place] = seen.get(place, -1) + 1
            found.setdefault((*place, seen[place]), [None] * len(members))[number] = request
    by_slice: dict[int, list[Wanted]] = {}
    for (slice_index, _, _), requests in found.items():
        by_slice.setdefault(slice_index, []).append(Wanted(requests=tuple(requests)))
    return by_slice


class Panel(Conversation):
    """The members' answers about one slice.

    Args:
        members: the models, with the scan.
        features: of the slice, by member.
        wanted: the masks asked for.
    """

    def __init__(self, members: Sequence[Member], features: Sequence[Features], wanted: Sequence[Wanted]) -> None:
        prompts: list[dict[int, QueryPrompt]] = [{} for _ in members]
        for place, one in enumerate(wanted):
            for number, request in enumerate(one.requests):
                if request is not None:
                    prompts[number][place] = request.prompt
        super().__init__([member.inference for member in members], features, prompts)
        self._members, self.wanted = members, wanted
        self._native: dict[int, NDArray[np.float32]] = {}
        self._same_grid = all(member.prepared.fit == members[0].prepared.fit for member in members)

    def ask(self) -> None:
        """Ask every member all that is wanted."""
        self._native.clear()
        super().ask()

    def correct(self, round_number: int, threshold: float) -> None:
        """Give each mask that has a reference and a click left one on its largest error, the same for all members."""
        for place, one in enumerate(self.wanted):
            request = one.first
            if request.reference is None or round_number >= request.rounds:
                continue
            fit = self._members[one.lead].prepared.fit
            found = self.on_input(place, one.lead) > threshold
            click = correction_click(found, request.reference, valid=fit.valid)
            if click is not None:
                self.click(place, {number: self._moved(click, one.lead, number) for number in self.asked(place)})

    @property
    def shape_HW(self) -> tuple[int, int]:
        """Of the slice's own pixels."""
        _, rows, cols = self._members[0].prepared.shape_SHW
        return rows, cols

    def on_slice(self, place: int) -> NDArray[np.float32]:
        """The probability of a wanted mask on the slice's own pixels (rows, cols), averaged over the members."""
        return mean_map([self._restored(number)[self.row(place, number), 0] for number in self.asked(place)])

    def classes(self) -> NDArray[np.float32]:
        """The classes' probabilities (background and classes, rows, cols) of automatic methods, averaged."""
        maps = []
        for number, member in enumerate(self._members):
            restored = self._restored(number)[0]
            maps.append(restored if member.channels is None else restored[list(member.channels)])
        return mean_map(maps)

    def on_input(self, place: int, number: int) -> NDArray[np.float32]:
        """The averaged probability of a wanted mask on one member's input grid (S, S)."""
        if self._same_grid:
            return self.on_shared_grid(place)
        fitted = self._members[number].prepared.fit.fit_image(self.on_slice(place)[None])
        return fitted.image.reshape(fitted.valid.shape)

    def _restored(self, number: int) -> NDArray[np.float32]:
        """A member's probabilities (Q, C, rows, cols) on the slice's own pixels."""
        if number not in self._native:
            given = self.answer_of(number).probabilities
            restored = self._members[number].prepared.restore(given.reshape(-1, *given.shape[2:]))
            self._native[number] = restored.reshape(*given.shape[:2], *restored.shape[1:])
        return self._native[number]

    def _moved(self, click: Click, source: int, target: int) -> Click:
        """A click in one member's input pixels as the same place in another's."""
        here, there = self._members[source].prepared.fit, self._members[target].prepared.fit
        if here == there:
            return click
        x, y = there.points_to_input(here.points_to_native(np.array([click.position])))[0]
        return replace(click, position=(float(x), float(y)))
