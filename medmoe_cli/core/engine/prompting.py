"""First prompts by a stage's mix, and the clicks that correct an answer; everything drawn from a query's own seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medmoe_cli.core.nn.prompts import QueryPrompt, correction_click, simulate
from medmoe_cli.core.nn.segmenter import PromptKind, Stage

__all__ = ["PromptChooser", "QueryPrompt", "corrected", "training_chooser", "validation_choosers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptChooser:
    """Chooses and simulates a query's first prompt.

    Attributes:
        name: the prompt kind, or 'mix' in training.
        mix: probability by kind.
        prior_mix: for queries of kind 'none', the probability of a 'mask' or 'text' prior.
        mask_size: the decoder's mask grid.
        random: draw the point and the box's jitter; False gives the central point and the tight box.
        jitter: most that an edge of a drawn box moves, as a fraction of the box's side.
    """

    name: str
    mix: Mapping[PromptKind, float]
    prior_mix: Mapping[PromptKind, float] = field(default_factory=dict)
    mask_size: tuple[int, ...]
    random: bool
    jitter: float = 0.0

    @property
    def text_only(self) -> bool:
        """True when queries are asked by name alone, so that what is not there can be asked for."""
        return {kind for kind, weight in self.mix.items() if weight > 0} == {"text"}

    def first(self, mask: NDArray[np.bool_], *, class_index: int, rng: np.random.Generator) -> QueryPrompt:
        """The first prompt for one mask.

        Args:
            mask: bool (*S), not empty unless asked by text alone.
            class_index: its class, for text prompts.
            rng: the query's own.
        """
        kind = _draw(self.mix, rng)
        if kind == "none" and self.prior_mix:
            kind = _draw(self.prior_mix, rng)
        return simulate(
            kind,
            mask,
            rng=rng if self.random else None,
            class_index=class_index,
            jitter=self.jitter,
            mask_size=self.mask_size,
        )


def training_chooser(stage: Stage, mask_size: tuple[int, ...], *, jitter: float) -> PromptChooser:
    """The stage's mix of first prompts."""
    return PromptChooser(
        name="mix", mix=stage.prompt_mix, prior_mix=stage.prior_mix, mask_size=mask_size, random=True, jitter=jitter
    )


def validation_choosers(
    stage: Stage, mask_size: tuple[int, ...], *, kinds: Collection[str], binary: bool
) -> tuple[PromptChooser, ...]:
    """One chooser per prompt kind that validation measures.

    Tight box and central point where the method takes them; text where the stage trains it; nothing at all where
    there is one class and the stage trains self-prompted queries.

    Args:
        stage: what is trained.
        mask_size: the decoder's mask grid.
        kinds: prompt kinds the model answers.
        binary: there is one class.
    """
    chosen: list[PromptKind] = []
    if "box" in kinds:
        chosen.append("box")
    if "point" in kinds:
        chosen.append("point")
    if stage.prompt_mix.get("text", 0) > 0:
        chosen.append("text")
    if binary and "none" in kinds and stage.prompt_mix.get("none", 0) > 0:
        chosen.append("none")
    return tuple(PromptChooser(name=kind, mix={kind: 1.0}, mask_size=mask_size, random=False) for kind in chosen)


def corrected(
    prompts: Sequence[QueryPrompt], *, logits: Tensor, low_res_logits: Tensor | None, masks: Tensor, valid: Tensor
) -> list[QueryPrompt]:
    """The next round's prompts: one click on the largest error, and the answer as a mask prompt.

    Args:
        prompts: the round's.
        logits: (Q, 1, *S).
        low_res_logits: (Q, 1, *s) or None.
        masks: bool (Q, 1, *S).
        valid: bool (Q, *S).
    """
    answered = (logits.detach() > 0).squeeze(1).cpu().numpy()
    wanted, seen = masks.squeeze(1).cpu().numpy(), valid.cpu().numpy()
    small = None if low_res_logits is None else low_res_logits.detach().float().squeeze(1).cpu().numpy()
    following = []
    for row, prompt in enumerate(prompts):
        click = correction_click(answered[row], wanted[row], valid=seen[row])
        mask = None if small is None else small[row]
        following.append(prompt.with_click(click).with_mask(mask))
    return following


def _draw(mix: Mapping[PromptKind, float], rng: np.random.Generator) -> PromptKind:
    kinds = sorted(kind for kind, weight in mix.items() if weight > 0)
    weights = np.array([mix[kind] for kind in kinds], float)
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
