"""How varied a choice among experts is, and how much it depends on what was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def effective_number(counts: NDArray[np.float64]) -> float:
    """How many evenly used experts would be as varied: exp of the entropy; E when even, 1 when one does all."""
    return float(np.exp(_entropy(counts))) if counts.sum() > 0 else 0.0


def dependence(counts_SE: NDArray[np.float64]) -> float:
    """How much of the choice of an expert the structure explains, in [0, 1]: 0 nothing, 1 all of it.

    The mutual information of structure and expert over the entropy of the experts, structures weighing alike.

    Args:
        counts_SE: by structure and expert.
    """
    shares_SE = counts_SE[counts_SE.sum(axis=1) > 0]
    shares_SE = shares_SE / np.maximum(shares_SE.sum(axis=1, keepdims=True), 1e-12)
    if len(shares_SE) < 2:
        return 0.0
    whole = _entropy(shares_SE.mean(axis=0))
    within = float(np.mean([_entropy(shares) for shares in shares_SE]))
    return max(0.0, (whole - within) / whole) if whole > 1e-12 else 0.0


def _entropy(counts: NDArray[np.float64]) -> float:
    shares = counts / max(float(counts.sum()), 1e-12)
    used = shares[shares > 0]
    return float(-(used * np.log(used)).sum())
