"""A held-out sample asked of a model: by clicks that correct each other, or by a box; what came out and who answered.

Dice is measured on the network's grid, within the valid part of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.config.merge_report import Way
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.prompting import corrected
from medmoe_cli.core.imaging.sample import Sample, SampleSource
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.moe import Routing
from medmoe_cli.core.nn.prompts import QueryPrompt, collate, simulate
from medmoe_cli.core.nn.segmenter import Features, Output

CLICKS = 6  # paper: points are given one after the other, each on the largest error
WAYS: tuple[Way, ...] = ("points", "box")
_SHUT = -1e4  # a logit that no softmax hears


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One sample, ready to be asked about.

    Attributes:
        task: its label value in the joined source, from 1.
        features: of its window, one row.
        wanted: bool (1, 1, S, S, S).
        valid: bool (1, S, S, S).
    """

    task: int
    features: Features
    wanted: Tensor
    valid: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What one model said in the end.

    Attributes:
        dice: of its last mask.
        opened: the expert's answer index that joined in the last round, 0 for none.
        share: its probability.
        heard: the largest probability that each expert had in any round, general first; () without a gate.
        first: Dice after the first prompt.
    """

    dice: float
    opened: int
    share: float
    heard: tuple[float, ...]
    first: float


class Asking:
    """Asks models about a source's samples; each window is encoded once for all of them.

    Args:
        encoder: a model whose encoder all the others share.
        compute: device and precision.
        check: called between samples; raises to interrupt.
    """

    def __init__(self, encoder: SamMed3dMoe, *, compute: Compute, check: Callable[[], None] = lambda: None) -> None:
        self._encoder = encoder.to(compute.device).eval()
        self._compute, self._check = compute, check

    @torch.inference_mode()
    def samples(self, source: SampleSource, indices: Sequence[int]) -> Iterator[Asked]:
        """The samples, encoded one by one: no sample's result depends on another."""
        for index in indices:
            self._check()
            sample = source.load(index, seed=None)
            (task,) = source.classes(index)
            image = torch.from_numpy(np.ascontiguousarray(sample.image, np.float32))[None].to(self._compute.device)
            with self._compute.autocast():
                features = self._encoder.encode(image)
            yield Asked(
                task=task,
                features=features,
                wanted=torch.from_numpy(_mask(sample, task))[None, None].to(self._compute.device),
                valid=torch.from_numpy(np.ascontiguousarray(sample.valid))[None].to(self._compute.device),
            )

    @torch.inference_mode()
    def ask(self, model: SamMed3dMoe, asked: Asked, way: Way, *, clicks: int = CLICKS) -> Answered:
        """Ask in one way; 'points' gives `clicks` of them, one after the other."""
        prompts = first_prompt(asked, way)
        rounds = clicks if way == "points" else 1
        first, heard = 0.0, list[NDArray[np.float64]]()
        for round_ in range(rounds):
            output = self.answer(model, asked, prompts)
            dice = dice_of(output.logits, asked)
            first = first if round_ else dice
            gate = output.routing.get("gate")
            if gate is not None:
                heard.append(gate.probabilities[0].double().cpu().numpy())
            if round_ + 1 < rounds:
                prompts = self.click(prompts, output, asked)
        opened, share = _joined(gate)
        return Answered(
            dice=dice,
            opened=opened,
            share=share,
            heard=tuple(float(value) for value in np.max(heard, axis=0)) if heard else (),
            first=first,
        )

    @torch.inference_mode()
    def answer(self, model: SamMed3dMoe, asked: Asked, prompts: Sequence[QueryPrompt]) -> Output:
        """One decoding of one query."""
        with self._compute.autocast():
            return model.decode(asked.features, collate(prompts, mask_size=model.mask_size).to(self._compute.device))

    def click(self, prompts: Sequence[QueryPrompt], output: Output, asked: Asked) -> list[QueryPrompt]:
        """The next round's prompts: a click on the largest error, and the answer as a mask."""
        return corrected(
            prompts,
            logits=output.logits,
            low_res_logits=output.low_res_logits,
            masks=asked.wanted,
            valid=asked.valid,
        )


def first_prompt(asked: Asked, way: Way) -> list[QueryPrompt]:
    """A central click, or a tight box: nothing is drawn at random."""
    mask = asked.wanted[0, 0].cpu().numpy()
    return [simulate("point" if way == "points" else "box", mask)]


def dice_of(logits: Tensor, asked: Asked) -> float:
    """Dice of one answer against the sample's mask."""
    answered = (logits[0, 0] > 0) & asked.valid[0]
    wanted = asked.wanted[0, 0]
    total = int(answered.sum()) + int(wanted.sum())
    return 2 * int((answered & wanted).sum()) / total if total else 1.0


@contextmanager
def always_open(model: SamMed3dMoe) -> Iterator[SamMed3dMoe]:
    """A merged model at threshold 0, until the block ends: the best expert joins every answer."""
    config = model.config
    model.config = config.model_copy(update={"tau": 0.0})
    try:
        yield model
    finally:
        model.config = config


@contextmanager
def without(model: SamMed3dMoe, expert: int) -> Iterator[SamMed3dMoe]:
    """A merged model whose gate never calls the expert of that index (from 0), until the block ends."""
    last = model.gate.head[-1]
    assert isinstance(last, torch.nn.Linear)
    weight, bias = last.weight, last.bias
    shut_weight, shut_bias = weight.detach().clone(), bias.detach().clone()
    shut_weight[expert + 1] = 0
    shut_bias[expert + 1] = _SHUT
    last.weight, last.bias = torch.nn.Parameter(shut_weight), torch.nn.Parameter(shut_bias)
    try:
        yield model
    finally:
        last.weight, last.bias = weight, bias


def _joined(gate: Routing | None) -> tuple[int, float]:
    if gate is None:
        return 0, 0.0
    share = float(gate.gates[0, 1])
    return (int(gate.indices[0, 1]), share) if share > 0 else (0, float(gate.probabilities[0, 1:].max()))


def _mask(sample: Sample, task: int) -> NDArray[np.bool_]:
    assert sample.label is not None
    mask: NDArray[np.bool_] = (sample.label == task) & sample.valid
    return mask
