"""Several models asked the same about one image or window, again after every click: prompts and answers side by side.

One model is a conversation of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.engine.inference import Answer, Inference
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, collate
from medmoe_cli.core.nn.segmenter import Features


class Conversation:
    """What is asked of each member, and what it answered last.

    Args:
        inferences: the models.
        features: of the image, by member.
        prompts: by member, the prompts by place; a member may lack places.
    """

    def __init__(
        self,
        inferences: Sequence[Inference],
        features: Sequence[Features],
        prompts: Sequence[Mapping[int, QueryPrompt]],
    ) -> None:
        self._inferences, self._features = inferences, features
        self._prompts = [dict(sorted(own.items())) for own in prompts]
        self._rows = [list(own) for own in self._prompts]
        self._answers: list[Answer | None] = [None] * len(inferences)

    def ask(self) -> None:
        """Ask every member all that is wanted of it."""
        for number, inference in enumerate(self._inferences):
            if self._rows[number]:
                prompts = [self._prompts[number][place] for place in self._rows[number]]
                collated = collate(prompts, mask_size=inference.segmenter.mask_size)
                self._answers[number] = inference.answer(self._features[number], collated)

    def click(self, place: int, clicks: Mapping[int, Click]) -> None:
        """Add a click by member to a place, and show each its own last answer as a mask prompt."""
        for number, click in clicks.items():
            prompt = self._prompts[number][place].with_click(click)
            self._prompts[number][place] = prompt.with_mask(self._low_res(place, number))

    @property
    def prompts(self) -> list[QueryPrompt]:
        """What was prompted, in the first member's input pixels."""
        return [self._prompts[0][place] for place in self._rows[0]]

    @property
    def answer(self) -> Answer:
        """The first member's answer to all it was asked."""
        return self.answer_of(0)

    def asked(self, place: int) -> list[int]:
        """The members that are asked for a place."""
        return [number for number, rows in enumerate(self._rows) if place in rows]

    def on_shared_grid(self, place: int) -> NDArray[np.float32]:
        """The averaged probability of a place on the input grid, which all members share."""
        return mean_map([self.answer_of(each).probabilities[self.row(place, each), 0] for each in self.asked(place)])

    def score(self, place: int) -> float | None:
        """The mean of the members' own estimates of a mask's quality."""
        judges = [number for number in self.asked(place) if self._inferences[number].presence is None]
        return _mean([score for number in judges if (score := self._score(place, number)) is not None])

    def presence(self, place: int) -> float | None:
        """How likely what is asked for by name is there, the mean of the members that say so; None where none does."""
        return _mean([score for score, _ in self._presences(place)])

    def is_absent(self, place: int) -> bool:
        """It is asked for by its name alone, and not likely enough there to have a mask."""
        found = self._presences(place)
        score, least = _mean([score for score, _ in found]), _mean([least for _, least in found])
        return score is not None and least is not None and score < least

    def token(self, place: int) -> int | None:
        """The routed token that made a mask; None for several members, whose tokens have nothing in common."""
        routing = self.answer.routing if len(self._inferences) == 1 else {}
        return int(routing["token"].indices[self.row(place, 0), 0]) if "token" in routing else None

    def answer_of(self, number: int) -> Answer:
        """A member's last answer."""
        answer = self._answers[number]
        assert answer is not None, "ask first"
        return answer

    def row(self, place: int, number: int) -> int:
        """Where in a member's answer a place is."""
        return self._rows[number].index(place)

    def _presences(self, place: int) -> list[tuple[float, float]]:
        """By member that says so, the presence of a place asked for by name alone, and the least that counts."""
        found = []
        for number in self.asked(place):
            least, score = self._inferences[number].presence, self._score(place, number)
            if least is not None and score is not None and self._prompts[number][place].is_name_alone:
                found.append((score, least))
        return found

    def _score(self, place: int, number: int) -> float | None:
        given = self.answer_of(number).scores
        return None if given is None else float(given[self.row(place, number)])

    def _low_res(self, place: int, number: int) -> NDArray[np.float32] | None:
        given = self.answer_of(number).low_res_logits
        return None if given is None else given[self.row(place, number), 0].float().cpu().numpy()


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def mean_map(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Averaged in the order given; one map is itself."""
    if len(maps) == 1:
        return maps[0]
    total = maps[0].copy()
    for each in maps[1:]:
        total += each
    total /= len(maps)
    return total
