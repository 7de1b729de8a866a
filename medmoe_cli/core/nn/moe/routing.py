"""Routing: what a router decided, in one type for all methods.

Shapes: N routed items (tokens, layers or samples), E experts, K chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """A routing decision.

    Attributes:
        gates: (N, K) weights of the chosen experts (token-choice), summing to one over K unless straight-through.
        indices: (N, K) int64 expert of each choice.
        logits: (N, E) router scores without noise.
        probabilities: (N, E) softmax over all experts, differentiable.
        load: (E,) number of items each expert received.
    """

    gates: Tensor
    indices: Tensor
    logits: Tensor
    probabilities: Tensor
    load: Tensor
