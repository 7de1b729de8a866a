"""Which slices are drawn more often, where a method is to learn what is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.imaging.sample import SampleSource

_MOST_OFTEN = 4.0  # times as often as a slice that shows every class


def absent_weights(source: SampleSource, values: Sequence[int], *, share: float) -> NDArray[np.float64] | None:
    """Probability of each sample at every draw; None to draw all alike.

    Where nearly every slice shows every class, as of a heart, there is hardly anything absent to ask for. Slices that
    lack a class are then drawn more often, up to four times, until they are twice the share of queries that are to ask
    for something absent (in half of such a slice's queries there is).

    Args:
        source: of the training.
        values: label values of all classes.
        share: of the queries that are to name what is not there.
    """
    if share <= 0:
        return None
    lacks = np.array([not set(values) <= set(source.classes(index)) for index in range(len(source))])
    found, wanted = float(lacks.mean()), min(2 * share, 1 / 2)
    if not 0 < found < wanted:
        return None
    factor = min(wanted * (1 - found) / (found * (1 - wanted)), _MOST_OFTEN)
    weights = np.where(lacks, factor, 1.0)
    chances: NDArray[np.float64] = weights / weights.sum()
    return chances
