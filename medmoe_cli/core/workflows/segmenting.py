"""One scan through a model: encode slice by slice, answer the requests, bring masks back, settle overlaps.

Memory: the scan, one label map, and one float16 map of the winning probability; never a map per class (unless the
caller asks for the probabilities, which then go to a disk-backed array).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.nn.prompts import QueryPrompt, collate, correction_click, tight_box
from medmoe_cli.core.nn.segmenter import Features
from medmoe_cli.core.workflows.requests import Request

_KEPT_FEATURES = 4
# A structure that is followed from slice to slice ends where its mask vanishes or jumps.
_LEAST_OVERLAP = 0.1
_LEAST_SHARE = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A request's answer on its slice's own pixels.

    Attributes:
        request: what was asked.
        probability: float32 (rows, cols).
        score: the model's own estimate of the mask's IoU, None when it has none.
        token: index of the routed token or expert, None for methods without one.
    """

    request: Request
    probability: NDArray[np.float32]
    score: float | None
    token: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """A scan's result.

    Attributes:
        labels_SHW: label values (slices, rows, cols), canonical slices.
        prompts: the prompts given, by slice, for previews.
        num_requests: masks that were asked for.
        tokens: how often each routed token made the mask.
    """

    labels_SHW: NDArray[np.unsignedinteger]
    prompts: dict[int, list[QueryPrompt]]
    num_requests: int
    tokens: dict[int, int]


def segment(
    prepared: Prepared,
    requests: Sequence[Request],
    inference: Inference,
    *,
    threshold: float,
    probabilities: NDArray[np.float16] | None = None,
    listen: Callable[[Answered], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Segmented:
    """Answer all requests of a scan.

    Args:
        prepared: the scan.
        requests: what to ask.
        inference: the model.
        threshold: a pixel below it belongs to no class (prompted methods).
        probabilities: (classes, slices, rows, cols), filled by label value - 1 when given.
        listen: receives every answer before overlaps are settled.
        check: called between slices; raises to interrupt.
    """
    return _Run(prepared, inference, threshold, probabilities, listen, check).answer_all(requests)


class _Run:
    def __init__(
        self,
        prepared: Prepared,
        inference: Inference,
        threshold: float,
        probabilities: NDArray[np.float16] | None,
        listen: Callable[[Answered], None] | None,
        check: Callable[[], None],
    ) -> None:
        self.prepared, self.inference, self.threshold = prepared, inference, threshold
        self.probabilities, self.listen, self.check = probabilities, listen, check
        shape = (prepared.num_slices, prepared.fit.rows, prepared.fit.cols)
        highest = max(prepared.plan.labels.values())
        self.labels: NDArray[np.unsignedinteger] = np.zeros(shape, np.uint8 if highest <= 255 else np.uint16)
        self.best = np.zeros(shape, np.float16)
        self.prompts: dict[int, list[QueryPrompt]] = {}
        self.tokens: dict[int, int] = {}
        self.count = 0
        self.features: OrderedDict[int, Features] = OrderedDict()

    def answer_all(self, requests: Sequence[Request]) -> Segmented:
        by_slice: dict[int, list[Request]] = {}
        for request in requests:
            by_slice.setdefault(request.slice_index, []).append(request)
        indices = sorted(by_slice)
        step = self.inference.batch_size
        followed: list[tuple[Request, NDArray[np.float32]]] = []
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            encoded = self.inference.encode([self.prepared.slice(index).image for index in part])
            for index, features in zip(part, encoded, strict=True):
                self.check()
                followed += self._slice(by_slice[index], features)
        for request, probability in followed:
            for direction in (-1, 1):
                self._follow(request, probability, direction)
        return Segmented(labels_SHW=self.labels, prompts=self.prompts, num_requests=self.count, tokens=self.tokens)

    def _slice(self, requests: list[Request], features: Features) -> list[tuple[Request, NDArray[np.float32]]]:
        """Answer one slice's requests; return those to follow with their input-grid probability."""
        prompts = [request.prompt for request in requests]
        answer = self._ask(prompts, features)
        rounds = max(request.rounds for request in requests)
        valid = self.prepared.fit.valid
        for round_number in range(rounds):
            prompts = [
                prompt
                if request.reference is None or round_number >= request.rounds
                else self._corrected(prompt, request.reference, answer, row, valid)
                for row, (request, prompt) in enumerate(zip(requests, prompts, strict=True))
            ]
            answer = self._ask(prompts, features)
        index = requests[0].slice_index
        self.prompts.setdefault(index, []).extend(prompts)
        restored = self.prepared.restore(answer.probabilities.reshape(-1, *answer.probabilities.shape[2:]))
        per_query = restored.reshape(*answer.probabilities.shape[:2], *restored.shape[1:])
        if answer.probabilities.shape[1] > 1:
            self._settle_automatic(index, per_query[0])
            self.count += 1
            return []
        for row, request in enumerate(requests):
            self._settle(request, per_query[row, 0], answer, row)
        return [(request, answer.probabilities[row, 0]) for row, request in enumerate(requests) if request.follow]

    def _corrected(
        self, prompt: QueryPrompt, reference: NDArray[np.bool_], answer: Answer, row: int, valid: NDArray[np.bool_]
    ) -> QueryPrompt:
        click = correction_click(answer.probabilities[row, 0] > self.threshold, reference, valid=valid)
        low_res = None if answer.low_res_logits is None else answer.low_res_logits[row, 0].float().cpu().numpy()
        return prompt if click is None else prompt.with_click(click).with_mask(low_res)

    def _ask(self, prompts: list[QueryPrompt], features: Features) -> Answer:
        return self.inference.answer(features, collate(prompts, mask_size=self.inference.segmenter.mask_size))

    def _settle(self, request: Request, probability: NDArray[np.float32], answer: Answer, row: int) -> None:
        index = request.slice_index
        self.count += 1
        token = None
        if "token" in answer.routing:
            token = int(answer.routing["token"].indices[row, 0])
            self.tokens[token] = self.tokens.get(token, 0) + 1
        if self.listen is not None:
            score = None if answer.scores is None else float(answer.scores[row])
            self.listen(Answered(request=request, probability=probability, score=score, token=token))
        # Thresholded at the precision in which probabilities are kept, so that a mask and its probabilities agree.
        half = probability.astype(np.float16)
        wins = (half > self.threshold) & (half > self.best[index])
        self.labels[index][wins] = request.value
        self.best[index][wins] = half[wins]
        if self.probabilities is not None:
            kept = self.probabilities[request.value - 1, index]
            np.maximum(kept, half, out=kept)

    def _settle_automatic(self, index: int, probability_CHW: NDArray[np.float32]) -> None:
        self.labels[index] = probability_CHW.argmax(axis=0)
        if self.probabilities is not None:
            self.probabilities[:, index] = probability_CHW[1:]

    def _follow(self, request: Request, probability: NDArray[np.float32], direction: int) -> None:
        """Carry a structure from its prompted slice outwards: each slice is prompted by the last one's mask."""
        mask = probability > self.threshold
        first_area = int(mask.sum())
        index = request.slice_index + direction
        while 0 <= index < self.prepared.num_slices and mask.any():
            self.check()
            features = self._features(index)
            prompt = QueryPrompt(box=tight_box(mask), class_index=request.prompt.class_index)
            answer = self._ask([prompt], features)
            found = answer.probabilities[0, 0] > self.threshold
            overlap = int((found & mask).sum()) / max(int((found | mask).sum()), 1)
            if overlap < _LEAST_OVERLAP or int(found.sum()) < _LEAST_SHARE * first_area:
                return
            step = Request(slice_index=index, value=request.value, prompt=prompt)
            self.prompts.setdefault(index, []).append(prompt)
            self._settle(step, self.prepared.restore(answer.probabilities[0])[0], answer, 0)
            mask = found
            index += direction

    def _features(self, index: int) -> Features:
        if index not in self.features:
            self.features[index] = self.inference.encode([self.prepared.slice(index).image])[0]
            while len(self.features) > _KEPT_FEATURES:
                self.features.popitem(last=False)
        return self.features[index]
