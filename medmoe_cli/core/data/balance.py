"""How often the samples of a collection's members are drawn.

With the balance b in [0, 1], n_m samples of member m and its weight v_m, a member's share of the draws is

    p_m = v_m n_m^(1-b) / sum over members of v n^(1-b)

so 0 draws it by its size and 1 as often as every other. Within a member the labelled samples share its draws by

    w_i = (1-b) / n + b / K * sum over the classes c of sample i of 1 / n_c

with K classes in the member, n_c of its n labelled samples showing class c: 0 draws samples alike, 1 draws a class
first, each as often, and then one of the samples that show it. Samples without a label keep their own share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.data.concat_source import ConcatSource


def sample_weights(source: ConcatSource, weights: Sequence[float], balance: float) -> NDArray[np.float64]:
    """The probability of each sample at every draw; they add up to 1.

    Args:
        source: the joined members.
        weights: of each part.
        balance: 0 by size, 1 uniform.
    """
    parts = np.array([source.part_of(index) for index in range(len(source))])
    classes = [source.classes(index) for index in range(len(source))]
    found = np.zeros(len(source))
    shares = np.zeros(len(source.parts))
    for part, weight in enumerate(weights):
        places = np.flatnonzero(parts == part)
        if len(places):
            shares[part] = weight * len(places) ** (1 - balance)
            found[places] = _within([classes[place] for place in places], balance)
    shares /= shares.sum()
    return np.asarray(found * shares[parts])


def _within(classes: Sequence[tuple[int, ...]], balance: float) -> NDArray[np.float64]:
    """Of one member's samples; they add up to 1."""
    counts = Counter(value for present in classes for value in present)
    labelled = sum(bool(present) for present in classes)
    weights = np.full(len(classes), 1 / len(classes))
    for place, present in enumerate(classes):
        if present:
            evenly = sum(1 / counts[value] for value in present) / len(counts)
            weights[place] = labelled / len(classes) * ((1 - balance) / labelled + balance * evenly)
    return weights
