"""The training's curves and what they say in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medmoe_cli.core.reporting.curves import Curves, draw_dice, draw_losses, draw_variety
from medmoe_cli.core.reporting.figures import new_figure, png_of
from medmoe_cli.core.reporting.numbers import count, duration, listed, percent, ratio
from medmoe_cli.core.reporting.page import Block, Missing, Picture, Text
from medmoe_cli.core.reporting.variety import effective_number

_EVEN = 1e-3
_ABSENT = "absent"  # what the log calls names that are asked for and not there


def training_blocks(curves: Curves) -> tuple[Block, ...]:
    """A sentence, the losses, and the validation Dice on the way; says what the log lacks."""
    if not curves.steps and not curves.epochs:
        return (Missing(part="training curves", why="The run has no log.jsonl, or it is empty."),)
    blocks: list[Block] = [Text(text=_story(curves)), _losses(curves)]
    validated = _validated(curves)
    if validated:
        blocks.append(_dice(curves, validated))
    else:
        blocks.append(Missing(part="validation Dice on the way", why="No epoch of this training was validated."))
    if _routing_moves(curves):
        blocks.append(_variety(curves))
    return tuple(blocks)


def training_seconds(curves: Curves) -> float | None:
    """Time spent on training, resumed parts included; None before the first epoch ended."""
    return float(curves.epochs[-1]["machine"]["seconds"]) if curves.epochs else None


def _story(curves: Curves) -> str:
    last = (curves.epochs or curves.steps)[-1]
    text = f"{count(int(last['step']), 'step')} in {count(int(last['epoch']), 'epoch')}"
    seconds = training_seconds(curves)
    if seconds is not None:
        text += f", {duration(seconds)} of training"
    if len(curves.stages) > 1:
        parts = listed([f"'{span.name}' to step {span.step}" for span in curves.stages])
        text += f", in {len(curves.stages)} stages (shaded in turn): {parts}"
    best = [line for line in curves.epochs if line["best"] and line["validation"] is not None]
    if best:
        text += (
            f". The weights kept are those of epoch {best[-1]['epoch']}, the best on the validation cases "
            f"({_score(best[-1])}, slice by slice)"
        )
    return text + "."


def _score(line: Mapping[str, Any]) -> str:
    """Dice of what is there, and how often what is not there was left empty where that was asked."""
    validation = line["validation"]
    kinds = {kind: float(value) for kind, value in validation["dice"].items() if kind != _ABSENT}
    if _ABSENT not in validation["dice"] or not kinds:
        return f"mean Dice {ratio(float(validation['score']))}"
    silent = percent(float(validation["dice"][_ABSENT]))
    return f"mean Dice {ratio(sum(kinds.values()) / len(kinds))}; {silent} of the names of absent structures left empty"


def _validated(curves: Curves) -> list[Mapping[str, Any]]:
    return [line for line in curves.epochs if line["validation"] is not None]


def _routing_moves(curves: Curves) -> bool:
    """Whether the use of experts is worth a curve: not where each works alike by construction, or after one epoch."""
    shares = [share for line in curves.epochs for share in line["routing"].values()]
    return len(curves.epochs) > 1 and any(max(share) - min(share) > _EVEN for share in shares if share)


def _variety(curves: Curves) -> Picture:
    figure = new_figure(5.4, 3.7)
    draw_variety(figure.subplots(), curves)
    places = {place: share for line in curves.epochs for place, share in line["routing"].items() if share}
    last = [
        f"{place} {effective_number(np.asarray(share, float)):.1f} of {len(share)}" for place, share in places.items()
    ]
    return Picture(
        name="training-experts",
        png=png_of(figure),
        alt=f"Variety of the experts' use by epoch; in the last one: {listed(last, limit=12)}.",
        caption="How evenly the experts were used while training, at each routed place: the number of experts means "
        "even use, 1 means that one does everything.",
        half=True,
    )


def _losses(curves: Curves) -> Picture:
    figure = new_figure(5.4, 3.7)
    axes = figure.subplots()
    draw_losses(axes, curves)
    lines = curves.epochs or curves.steps
    first, last = (float(lines[place]["losses"]["loss"]) for place in (0, -1))
    return Picture(
        name="training-loss",
        png=png_of(figure),
        alt=f"Training loss by step: {first:.3g} at the first record, {last:.3g} at the last.",
        caption="What training makes small: the loss and its parts. It should fall and level off.",
        half=True,
    )


def _dice(curves: Curves, validated: list[Mapping[str, Any]]) -> Picture:
    figure = new_figure(5.4, 3.7)
    axes = figure.subplots()
    draw_dice(axes, curves)
    return Picture(
        name="training-dice",
        png=png_of(figure),
        alt="Validation Dice by epoch: "
        f"{_score(validated[0])} at epoch {validated[0]['epoch']}, {_score(validated[-1])} at epoch "
        f"{validated[-1]['epoch']}.",
        caption="Dice on the validation cases while training, slice by slice on the network's grid: it guides the "
        "training and differs from the result above, which is measured on whole scans.",
        half=True,
    )
