"""One scan through a 3D model, or several: windows around what is prompted, or over the whole volume, and back.

A window is encoded once, however many structures are asked for in it and however often they are clicked; its features
are gone when its last question is answered. Several models share spacing and windows; their probabilities are averaged
in each window.

Memory: the scan and its label map, the volume on the plan's grid, and a float16 map per structure of that grid's part
which was looked at; at the scan's own resolution never more than a slab of a probability map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.engine.windows import (
    Box3,
    Mosaic,
    Triple,
    Window,
    WindowGroup,
    batches,
    group_windows,
    total_weight,
)
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, correction_click
from medmoe_cli.core.nn.segmenter import Features
from medmoe_cli.core.workflows.predicting.conversation import Conversation
from medmoe_cli.core.workflows.predicting.segmented import Answered, Segmented, label_map, settle
from medmoe_cli.core.workflows.predicting.volume_marks import marks_by_slice
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest

# Masks of whole windows are large: this many are asked for at a time.
_QUERIES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeMember:
    """One 3D model before one scan.

    Attributes:
        prepared: the scan as this model sees it.
        requests: what is asked of it; values number the classes as the whole panel does.
        inference: the model.
    """

    prepared: VolumeScan
    requests: tuple[VolumeRequest, ...]
    inference: Inference


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeOptions:
    """As the arguments of `segmenting.segment` and `segment_together`."""

    threshold: float
    probabilities: NDArray[np.float16] | None = None
    listen: Callable[[Answered], None] | None = None
    each_round: Callable[[Answered], None] | None = None
    watch: Callable[[list[int], Answer], None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """An answer on the plan's grid: where its map begins, probabilities there, and nothing around."""

    start: Triple
    probability: NDArray[np.float16]
    score: float | None
    token: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weights:
    """What the weights of windows add up to on a part of the volume; None for one window."""

    windows: tuple[Window, ...]
    place: Box3
    total: NDArray[np.float32] | None


def segment_volume(
    members: Sequence[VolumeMember], options: VolumeOptions, *, check: Callable[[], None] = lambda: None
) -> Segmented:
    """Answer all requests of a scan with the average of one or more models.

    Args:
        members: the models, which share spacing and input size; the first one's plan numbers the classes.
        options: what is listened to and kept.
        check: called between windows; raises to interrupt.
    """
    return _VolumeRun(members, options, check).answer_all()


class _VolumeRun:
    def __init__(self, members: Sequence[VolumeMember], options: VolumeOptions, check: Callable[[], None]) -> None:
        self.members, self.options, self.check = members, options, check
        self.scan = members[0].prepared
        # Plans may list their classes in another order: the n-th request for a value is the same for all.
        self.requests = [sorted(member.requests, key=lambda request: request.value) for member in members]
        self.found: dict[int, _Found] = {}
        self.tokens: dict[int, int] = {}
        self.weights: _Weights | None = None

    def answer_all(self) -> Segmented:
        requests = self.requests[0]
        side = self.scan.plan.input_size
        for group in group_windows([request.extent for request in requests], self.scan.shape_DHW, side):
            if len(group.windows) > 1:
                self._slide(group)
            else:
                self._look(group)
        for found in self.found.values():
            if found.token is not None:
                self.tokens[found.token] = self.tokens.get(found.token, 0) + 1
        return Segmented(
            labels_SHW=self._settle(),
            prompts=marks_by_slice([request.prompt for request in requests], self.scan),
            num_requests=len(requests),
            tokens=self.tokens,
            prompted=frozenset(request.value for request in requests if request.is_prompted),
        )

    def _encode(self, windows: Sequence[Window]) -> list[list[Features]]:
        """By window, its features by member."""
        self.check()
        by_member = [
            member.inference.encode([window.cut(member.prepared.volume.image) for window in windows])
            for member in self.members
        ]
        return [[of_member[place] for of_member in by_member] for place in range(len(windows))]

    def _talk(self, features: Sequence[Features], window: Window, queries: Sequence[int]) -> Conversation | None:
        """A conversation about the queries that have something to say about a window; None where none has."""
        prompts: list[dict[int, QueryPrompt]] = []
        for member, requests in zip(self.members, self.requests, strict=True):
            mask_size = member.inference.segmenter.mask_size
            asked = {query: requests[query].in_window(window, mask_size=mask_size) for query in queries}
            prompts.append({query: prompt for query, prompt in asked.items() if prompt is not None})
        if not prompts[0]:
            return None
        return Conversation([member.inference for member in self.members], features, prompts)

    def _look(self, group: WindowGroup) -> None:
        """Queries that fit into one window."""
        (window,) = group.windows
        (features,) = self._encode([window])
        for queries in _in_parts(group.queries):
            talk = self._talk(features, window, queries)
            if talk is None:
                continue
            asked = [query for query in queries if talk.asked(query)]
            talk.ask()
            self._tell({query: _in_window(talk, window, query) for query in asked}, 0)
            rounds = max(self.requests[0][query].rounds for query in asked)
            for number in range(rounds):
                self.check()
                for query in asked:
                    self._correct(talk, window, query, number)
                talk.ask()
                self._tell({query: _in_window(talk, window, query) for query in asked}, number + 1)
            self._watch(talk, asked)
            self.found |= {query: _in_window(talk, window, query) for query in asked}

    def _correct(self, talk: Conversation, window: Window, query: int, number: int) -> None:
        """Click on the largest error in a window."""
        request = self.requests[0][query]
        if request.reference is None or number >= request.rounds:
            return
        mask = talk.on_shared_grid(query) > self.options.threshold
        click = correction_click(mask, request.reference.cut(window), valid=window.valid)
        if click is not None:
            talk.click(query, dict.fromkeys(talk.asked(query), click))

    def _slide(self, group: WindowGroup) -> None:
        """Queries that need several windows."""
        if any(self.requests[0][query].rounds for query in group.queries):
            features = [
                found
                for part in batches(group.windows, self.members[0].inference.batch_size)
                for found in self._encode(part)
            ]
            for query in group.queries:
                self._slide_and_click(group, query, features)
            return
        mosaics = {query: self._mosaic(group, query) for query in group.queries}
        last: dict[int, tuple[float | None, int | None]] = {}
        for part in batches(group.windows, self.members[0].inference.batch_size):
            for window, features_of in zip(part, self._encode(part), strict=True):
                for queries in _in_parts(group.queries):
                    talk = self._talk(features_of, window, queries)
                    if talk is None:
                        continue
                    talk.ask()
                    asked = [query for query in queries if talk.asked(query)]
                    self._watch(talk, asked)
                    for query in asked:
                        mosaics[query].add(window, talk.on_shared_grid(query))
                        last[query] = talk.score(query), talk.token(query)
        for query, (score, token) in last.items():
            self.found[query] = _as_found(group, mosaics[query], score, token)
            self._tell({query: self.found[query]}, 0)

    def _slide_and_click(self, group: WindowGroup, query: int, features: Sequence[list[Features]]) -> None:
        """A query that needs several windows and is clicked: every click is shown to the windows that hold it."""
        request = self.requests[0][query]
        talks = [
            (window, talk)
            for window, of_window in zip(group.windows, features, strict=True)
            if (talk := self._talk(of_window, window, [query])) is not None
        ]
        for _, talk in talks:
            talk.ask()
        for number in range(request.rounds + 1):
            self.check()
            mosaic = self._mosaic(group, query)
            for window, talk in talks:
                mosaic.add(window, talk.on_shared_grid(query))
            found = _as_found(group, mosaic, talks[0][1].score(query), talks[0][1].token(query))
            self._tell({query: found}, number)
            if number == request.rounds or request.reference is None:
                break
            click = correction_click(found.probability > self.options.threshold, request.reference.within(group.place))
            if click is None:
                continue
            x, y, z = (place + start for place, start in zip(click.position, reversed(found.start), strict=True))
            moved = Click(position=(x, y, z), foreground=click.foreground)
            for window, talk in talks:
                if window.holds(moved):
                    talk.click(query, dict.fromkeys(talk.asked(query), window.click(moved)))
                    talk.ask()
        for _, talk in talks:
            self._watch(talk, [query])
        self.found[query] = found

    def _mosaic(self, group: WindowGroup, query: int) -> Mosaic:
        """An empty map for a query; queries that are asked in the same windows share their weights."""
        mask_size = self.members[0].inference.segmenter.mask_size
        request = self.requests[0][query]
        asked = tuple(window for window in group.windows if request.in_window(window, mask_size=mask_size) is not None)
        place = group.place
        if self.weights is None or (self.weights.windows, self.weights.place) != (asked, place):
            self.weights = _Weights(windows=asked, place=place, total=total_weight(asked, place))
        return Mosaic(place, self.weights.total)

    def _watch(self, talk: Conversation, queries: Sequence[int]) -> None:
        if self.options.watch is not None:
            self.options.watch([self.requests[0][query].value for query in queries], talk.answer)

    def _tell(self, found: Mapping[int, _Found], round_number: int) -> None:
        """Report answers at the scan's own resolution after so many clicks."""
        if self.options.each_round is None:
            return
        for query, answer in found.items():
            part = 0
            for slab in self.scan.slabs():
                native = self.scan.restore(answer.probability, answer.start, slab)
                if native is not None:
                    self.options.each_round(
                        Answered(
                            request=self.requests[0][query],
                            place=native.place,
                            probability=native.probability,
                            score=answer.score,
                            token=answer.token,
                            round=round_number,
                            part=part,
                        )
                    )
                    part += 1

    def _settle(self) -> NDArray[np.unsignedinteger]:
        """The label map, slab by slab: the most probable structure has a voxel."""
        labels = label_map(self.scan.shape_SHW, self.scan.plan.labels.values())
        parts = dict.fromkeys(self.found, 0)
        for slab in self.scan.slabs():
            self.check()
            best = np.zeros((slab.stop - slab.start, *self.scan.shape_SHW[1:]), np.float16)
            for query, answer in sorted(self.found.items()):
                native = self.scan.restore(answer.probability, answer.start, slab)
                if native is None:
                    continue
                request = self.requests[0][query]
                if self.options.listen is not None:
                    self.options.listen(
                        Answered(
                            request=request,
                            place=native.place,
                            probability=native.probability,
                            score=answer.score,
                            token=answer.token,
                            round=request.rounds,
                            part=parts[query],
                        )
                    )
                    parts[query] += 1
                half = native.probability.astype(np.float16)
                slices, rows, cols = native.place
                inside = (slice(slices.start - slab.start, slices.stop - slab.start), rows, cols)
                settle(
                    half,
                    request.value,
                    threshold=self.options.threshold,
                    labels=labels[native.place],
                    best=best[inside],
                )
                if self.options.probabilities is not None:
                    kept = self.options.probabilities[request.value - 1][native.place]
                    np.maximum(kept, half, out=kept)
        return labels


def _in_window(talk: Conversation, window: Window, query: int) -> _Found:
    """A query's answer in its one window, without what lies beyond the volume."""
    z, y, x = (part.start for part in window.place)
    return _Found(
        start=(z, y, x),
        probability=talk.on_shared_grid(query)[window.own].astype(np.float16),
        score=talk.score(query),
        token=talk.token(query),
    )


def _as_found(group: WindowGroup, mosaic: Mosaic, score: float | None, token: int | None) -> _Found:
    z, y, x = (part.start for part in group.place)
    return _Found(start=(z, y, x), probability=mosaic.probability, score=score, token=token)


def _in_parts(queries: Sequence[int]) -> list[Sequence[int]]:
    return [queries[start : start + _QUERIES] for start in range(0, len(queries), _QUERIES)]
