"""One scan through a model, or several: encode slice by slice, answer the requests, bring masks back, settle overlaps.

Several models are averaged: their probabilities on the slice's own pixels. Volumes go to `volume_segmenting`.

Memory: the scan, one label map, and one float16 map of the winning probability; never a map per class (unless the
caller asks for the probabilities, which then go to a disk-backed array).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.nn.prompts import QueryPrompt, tight_box
from medmoe_cli.core.nn.segmenter import Features
from medmoe_cli.core.workflows.predicting.panel import Member, Panel, Wanted, align
from medmoe_cli.core.workflows.predicting.requests import Request, Requests
from medmoe_cli.core.workflows.predicting.segmented import Answered, Segmented, label_map, settle
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest
from medmoe_cli.core.workflows.predicting.volume_segmenting import VolumeMember, VolumeOptions, segment_volume

__all__ = ["Answered", "Members", "Segmented", "member_of", "segment", "segment_together"]

_KEPT_FEATURES = 4
Members = Sequence[Member | VolumeMember]
# A structure that is followed from slice to slice ends where its mask vanishes or jumps.
_LEAST_OVERLAP = 0.1
_LEAST_SHARE = 0.02


def segment(
    prepared: Prepared | VolumeScan,
    requests: Requests,
    inference: Inference,
    *,
    threshold: float,
    probabilities: NDArray[np.float16] | None = None,
    listen: Callable[[Answered], None] | None = None,
    each_round: Callable[[Answered], None] | None = None,
    watch: Callable[[list[int], Answer], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Segmented:
    """Answer all requests of a scan with one model; as `segment_together`."""
    member = member_of(prepared, requests, inference)
    if isinstance(member, VolumeMember):
        options = VolumeOptions(
            threshold=threshold, probabilities=probabilities, listen=listen, each_round=each_round, watch=watch
        )
        return segment_volume((member,), options, check=check)
    return _Run((member,), threshold, probabilities, listen, watch, check, each_round).answer_all()


def segment_together(
    members: Members,
    *,
    threshold: float,
    probabilities: NDArray[np.float16] | None = None,
    each_round: Callable[[Answered], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Segmented:
    """Answer all requests of a scan with the average of one or more models.

    Args:
        members: the models with the scan and what is asked of them; the first one's plan numbers the classes.
        threshold: a pixel below it belongs to no class (prompted methods).
        probabilities: (classes, slices, rows, cols), filled by label value - 1 when given.
        each_round: receives every answer of a prompted method after every click, not the last one alone.
        check: called between slices; raises to interrupt.

    `segment` also takes `listen`, which receives every answer of a prompted method before overlaps are settled, and
    `watch`, which receives the label values asked for on a slice with the model's whole answer.
    """
    volumes = [member for member in members if isinstance(member, VolumeMember)]
    if volumes:
        options = VolumeOptions(threshold=threshold, probabilities=probabilities, each_round=each_round)
        return segment_volume(volumes, options, check=check)
    slices = [member for member in members if isinstance(member, Member)]
    return _Run(slices, threshold, probabilities, None, None, check, each_round).answer_all()


def member_of(
    prepared: Prepared | VolumeScan, requests: Requests, inference: Inference, channels: tuple[int, ...] | None = None
) -> Member | VolumeMember:
    """A model before a scan; attributes as in `Member`."""
    if isinstance(prepared, VolumeScan):
        wanted = tuple(one for one in requests if isinstance(one, VolumeRequest))
        return VolumeMember(prepared=prepared, requests=wanted, inference=inference)
    of_slices = tuple(one for one in requests if isinstance(one, Request))
    return Member(prepared=prepared, requests=of_slices, inference=inference, channels=channels)


class _Run:
    def __init__(
        self,
        members: Sequence[Member],
        threshold: float,
        probabilities: NDArray[np.float16] | None,
        listen: Callable[[Answered], None] | None,
        watch: Callable[[list[int], Answer], None] | None,
        check: Callable[[], None],
        each_round: Callable[[Answered], None] | None = None,
    ) -> None:
        self.members, self.threshold, self.each_round = members, threshold, each_round
        self.probabilities, self.listen, self.watch, self.check = probabilities, listen, watch, check
        prepared = self.prepared = members[0].prepared
        shape = prepared.shape_SHW
        self.labels = label_map(shape, prepared.plan.labels.values())
        self.best = np.zeros(shape, np.float16)
        self.prompts: dict[int, list[QueryPrompt]] = {}
        self.tokens: dict[int, int] = {}
        self.prompted: set[int] = set()
        self.presence: dict[int, float] = {}
        self.count = 0
        self.features: OrderedDict[int, list[Features]] = OrderedDict()

    def answer_all(self) -> Segmented:
        by_slice = align(self.members)
        indices = sorted(by_slice)
        step = min(member.inference.batch_size for member in self.members)
        followed: list[tuple[Wanted, tuple[NDArray[np.float32] | None, ...]]] = []
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            encoded = self._encode(part)
            for position, index in enumerate(part):
                self.check()
                followed += self._slice(by_slice[index], [of_member[position] for of_member in encoded])
        for wanted, maps in followed:
            for direction in (-1, 1):
                self._follow(wanted, maps, direction)
        return Segmented(
            labels_SHW=self.labels,
            prompts=self.prompts,
            num_requests=self.count,
            tokens=self.tokens,
            prompted=frozenset(self.prompted),
            presence=self.presence,
        )

    def _encode(self, indices: Sequence[int]) -> list[list[Features]]:
        """By member, the features of slices."""
        return [
            member.inference.encode([member.prepared.slice(index).image for index in indices])
            for member in self.members
        ]

    def _slice(
        self, wanted: list[Wanted], features: list[Features]
    ) -> list[tuple[Wanted, tuple[NDArray[np.float32] | None, ...]]]:
        """Answer one slice's requests; return those to follow with their probability on each member's input grid."""
        panel = Panel(self.members, features, wanted)
        panel.ask()
        self._tell(panel, 0)
        for round_number in range(max(one.first.rounds for one in wanted)):
            panel.correct(round_number, self.threshold)
            panel.ask()
            self._tell(panel, round_number + 1)
        self._conclude(panel)
        return [(one, self._maps(panel, place)) for place, one in enumerate(wanted) if one.first.follow]

    def _conclude(self, panel: Panel) -> None:
        """Write a slice's answers down."""
        index = panel.wanted[0].first.slice_index
        self.prompts.setdefault(index, []).extend(panel.prompts)
        if self.watch is not None:
            self.watch([one.first.value for one in panel.wanted], panel.answer)
        if self.members[0].inference.automatic:
            self._settle_automatic(index, panel.classes())
            self.count += 1
            return
        for place, one in enumerate(panel.wanted):
            prompt = one.first.prompt
            if prompt.clicks or prompt.box is not None or prompt.mask is not None:
                self.prompted.add(one.first.value)
            self._settle(_answered(panel, place, round_number=one.first.rounds))

    def _tell(self, panel: Panel, round_number: int) -> None:
        if self.each_round is not None and not self.members[0].inference.automatic:
            for place in range(len(panel.wanted)):
                self.each_round(_answered(panel, place, round_number=round_number))

    def _maps(self, panel: Panel, place: int) -> tuple[NDArray[np.float32] | None, ...]:
        return tuple(
            None if request is None else panel.on_input(place, number)
            for number, request in enumerate(panel.wanted[place].requests)
        )

    def _settle(self, answered: Answered) -> None:
        assert isinstance(answered.request, Request)
        index, value = answered.request.slice_index, answered.request.value
        self.count += 1
        if answered.token is not None:
            self.tokens[answered.token] = self.tokens.get(answered.token, 0) + 1
        if answered.presence is not None:
            self.presence[value] = max(self.presence.get(value, 0.0), answered.presence)
        if self.listen is not None:
            self.listen(answered)
        half = answered.probability.astype(np.float16)
        settle(half, value, threshold=self.threshold, labels=self.labels[index], best=self.best[index])
        if self.probabilities is not None:
            kept = self.probabilities[value - 1, index]
            np.maximum(kept, half, out=kept)

    def _settle_automatic(self, index: int, probability_CHW: NDArray[np.float32]) -> None:
        self.labels[index] = probability_CHW.argmax(axis=0)
        if self.probabilities is not None:
            self.probabilities[:, index] = probability_CHW[1:]

    def _follow(self, wanted: Wanted, maps: tuple[NDArray[np.float32] | None, ...], direction: int) -> None:
        """Carry a structure from its prompted slice outwards: each slice is prompted by the last one's mask."""
        lead = wanted.lead
        masks = [None if found is None else found > self.threshold for found in maps]
        mask = masks[lead]
        first_area = 0 if mask is None else int(mask.sum())
        index = wanted.first.slice_index + direction
        while 0 <= index < self.prepared.num_slices and mask is not None and mask.any():
            self.check()
            step = _prompted_by(masks, wanted, index)
            panel = Panel(self.members, self._features(index), [step])
            panel.ask()
            masks = [None if found is None else found > self.threshold for found in self._maps(panel, 0)]
            found = masks[lead]
            assert found is not None
            overlap = int((found & mask).sum()) / max(int((found | mask).sum()), 1)
            if overlap < _LEAST_OVERLAP or int(found.sum()) < _LEAST_SHARE * first_area:
                return
            self._conclude(panel)
            mask = found
            index += direction

    def _features(self, index: int) -> list[Features]:
        if index not in self.features:
            self.features[index] = [of_member[0] for of_member in self._encode([index])]
            while len(self.features) > _KEPT_FEATURES:
                self.features.popitem(last=False)
        return self.features[index]


def _answered(panel: Panel, place: int, *, round_number: int) -> Answered:
    request = panel.wanted[place].first
    return Answered(
        request=request,
        place=(request.slice_index, slice(None), slice(None)),
        probability=np.zeros(panel.shape_HW, np.float32) if panel.is_absent(place) else panel.on_slice(place),
        score=panel.score(place),
        token=panel.token(place),
        presence=panel.presence(place),
        round=round_number,
    )


def _prompted_by(masks: Sequence[NDArray[np.bool_] | None], wanted: Wanted, index: int) -> Wanted:
    """The same structure on another slice, prompted with the box of each member's mask; an empty one has none."""
    requests: list[Request | None] = []
    for mask, request in zip(masks, wanted.requests, strict=True):
        box = None if mask is None else tight_box(mask)
        if request is None or box is None:
            requests.append(None)
            continue
        prompt = QueryPrompt(box=box, class_index=request.prompt.class_index)
        requests.append(Request(slice_index=index, value=request.value, prompt=prompt))
    return Wanted(requests=tuple(requests))
