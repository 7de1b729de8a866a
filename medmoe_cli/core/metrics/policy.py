"""What an empty mask means: the policy 'medmoe', which every summary names.

Tools disagree here more than anywhere else (a class absent from both masks is Dice 1, 0 or undefined; a missed organ
has HD 0, infinity, or nothing), and a mean over cases silently inherits the choice.
"""

from __future__ import annotations

from enum import StrEnum

from medmoe_cli.core.metrics.overlap import Counts

EMPTY_MASKS = (
    "absent from both: not counted, but reported as n_true_negative; absent from one: Dice, IoU and NSD are 0, "
    "distances are undefined and reported as n_missed or n_false_positive; penalised_mean counts such a distance as "
    "the image's diagonal"
)


class Presence(StrEnum):
    """In which of the two masks a class occurs."""

    BOTH = "both"
    TRUE_NEGATIVE = "true_negative"
    MISSED = "missed"
    FALSE_POSITIVE = "false_positive"
    UNKNOWN = "unknown"  # the reference does not label the class: nothing is counted


def presence(counts: Counts) -> Presence:
    """Where the class occurs: both masks, none, only the reference (missed), only the prediction."""
    if counts.n_reference and counts.n_prediction:
        return Presence.BOTH
    if counts.n_reference:
        return Presence.MISSED
    if counts.n_prediction:
        return Presence.FALSE_POSITIVE
    return Presence.TRUE_NEGATIVE
