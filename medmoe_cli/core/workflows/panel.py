"""Several models asked the same about one slice: their answers side by side, and what they say together.

One model is a panel of one. Models may see the scan at different sizes: each is asked in its own input pixels, and
what they share are the slice's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, collate, correction_click
from medmoe_cli.core.nn.segmenter import Features
from medmoe_cli.core.workflows.requests import Request


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


class Panel:
    """The members' answers about one slice.

    Args:
        members: the models, with the scan.
        features: of the slice, by member.
        wanted: the masks asked for.
    """

    def __init__(self, members: Sequence[Member], features: Sequence[Features], wanted: Sequence[Wanted]) -> None:
        self._members, self._features, self.wanted = members, features, wanted
        self._rows = [
            [place for place, one in enumerate(wanted) if one.requests[number] is not None]
            for number in range(len(members))
        ]
        self._prompts: list[dict[int, QueryPrompt]] = [{} for _ in members]
        for place, one in enumerate(wanted):
            for number, request in enumerate(one.requests):
                if request is not None:
                    self._prompts[number][place] = request.prompt
        self._answers: list[Answer | None] = [None] * len(members)
        self._native: dict[int, NDArray[np.float32]] = {}
        self._same_grid = all(member.prepared.fit == members[0].prepared.fit for member in members)

    def ask(self) -> None:
        """Ask every member all that is wanted."""
        self._native.clear()
        for number, member in enumerate(self._members):
            if self._rows[number]:
                prompts = [self._prompts[number][place] for place in self._rows[number]]
                collated = collate(prompts, mask_size=member.inference.segmenter.mask_size)
                self._answers[number] = member.inference.answer(self._features[number], collated)

    def correct(self, round_number: int, threshold: float) -> None:
        """Give each mask that has a reference and a click left one on its largest error, the same for all members."""
        for place, one in enumerate(self.wanted):
            request = one.first
            if request.reference is None or round_number >= request.rounds:
                continue
            fit = self._members[one.lead].prepared.fit
            found = self.on_input(place, one.lead) > threshold
            click = correction_click(found, request.reference, valid=fit.valid)
            if click is None:
                continue
            for number in self._asked(place):
                prompt = self._prompts[number][place].with_click(self._moved(click, one.lead, number))
                self._prompts[number][place] = prompt.with_mask(self._low_res(place, number))

    @property
    def prompts(self) -> list[QueryPrompt]:
        """What was prompted, in the first member's input pixels."""
        return [self._prompts[0][place] for place in self._rows[0]]

    def on_slice(self, place: int) -> NDArray[np.float32]:
        """The probability of a wanted mask on the slice's own pixels (rows, cols), averaged over the members."""
        return _mean([self._restored(number)[self._row(place, number), 0] for number in self._asked(place)])

    def classes(self) -> NDArray[np.float32]:
        """The classes' probabilities (background and classes, rows, cols) of automatic methods, averaged."""
        maps = []
        for number, member in enumerate(self._members):
            restored = self._restored(number)[0]
            maps.append(restored if member.channels is None else restored[list(member.channels)])
        return _mean(maps)

    def on_input(self, place: int, number: int) -> NDArray[np.float32]:
        """The averaged probability of a wanted mask on one member's input grid (S, S)."""
        if self._same_grid:
            return _mean([self._answer(each).probabilities[self._row(place, each), 0] for each in self._asked(place)])
        fitted = self._members[number].prepared.fit.fit_image(self.on_slice(place)[None])
        return fitted.image.reshape(fitted.valid.shape)

    def score(self, place: int) -> float | None:
        """The mean of the members' own estimates of a mask's quality."""
        scores = []
        for number in self._asked(place):
            given = self._answer(number).scores
            if given is not None:
                scores.append(float(given[self._row(place, number)]))
        return sum(scores) / len(scores) if scores else None

    def token(self, place: int) -> int | None:
        """The routed token that made a mask; None for several members, whose tokens have nothing in common."""
        routing = self.answer.routing if len(self._members) == 1 else {}
        return int(routing["token"].indices[place, 0]) if "token" in routing else None

    @property
    def answer(self) -> Answer:
        """The first member's answer to all it was asked."""
        return self._answer(0)

    def _answer(self, number: int) -> Answer:
        answer = self._answers[number]
        assert answer is not None, "ask first"
        return answer

    def _asked(self, place: int) -> list[int]:
        return [number for number, request in enumerate(self.wanted[place].requests) if request is not None]

    def _row(self, place: int, number: int) -> int:
        return self._rows[number].index(place)

    def _restored(self, number: int) -> NDArray[np.float32]:
        """A member's probabilities (Q, C, rows, cols) on the slice's own pixels."""
        if number not in self._native:
            given = self._answer(number).probabilities
            restored = self._members[number].prepared.restore(given.reshape(-1, *given.shape[2:]))
            self._native[number] = restored.reshape(*given.shape[:2], *restored.shape[1:])
        return self._native[number]

    def _low_res(self, place: int, number: int) -> NDArray[np.float32] | None:
        given = self._answer(number).low_res_logits
        return None if given is None else given[self._row(place, number), 0].float().cpu().numpy()

    def _moved(self, click: Click, source: int, target: int) -> Click:
        """A click in one member's input pixels as the same place in another's."""
        here, there = self._members[source].prepared.fit, self._members[target].prepared.fit
        if here == there:
            return click
        x, y = there.points_to_input(here.points_to_native(np.array([click.position])))[0]
        return replace(click, position=(float(x), float(y)))


def _mean(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Averaged in the order given; one map is itself."""
    if len(maps) == 1:
        return maps[0]
    total = maps[0].copy()
    for each in maps[1:]:
        total += each
    total /= len(maps)
    return total
