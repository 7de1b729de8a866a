"""Routing: what a router decided, in one type for all methods.

Shapes: N routed items (tokens, layers or samples), E experts, K chosen, D width; G groups of n items where experts
choose among the items of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """A routing decision.

    Attributes:
        gates: (N, K) weights of the chosen experts (token-choice), summing to one over K unless straight-through.
            Where experts choose (expert-choice): (G, E, K) weights of each expert's items, summing to one over K.
        indices: (N, K) int64 expert of each choice. Where experts choose: (G, E, K) item of each choice, in [0, n).
        logits: (N, E) router scores without noise; (G, n, E) where experts choose.
        probabilities: (N, E) softmax over all experts, differentiable, noise included; (G, n, E) where experts choose.
        load: (E,) number of items each expert received.
        num_items: where experts choose and `indices` number something coarser than the n items (the layer of each
            place and layer, say), how many of those there are; None: n.
    """

    gates: Tensor
    indices: Tensor
    logits: Tensor
    probabilities: Tensor
    load: Tensor
    num_items: int | None = None
