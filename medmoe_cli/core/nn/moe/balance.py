"""Auxiliary losses of routers: balance and sharpness.

Source: SegMoTE eq. 7-9.
Differs: 1. importance sums the softmax over all experts, which is differentiable with any number of chosen experts;
            summing hard gates would give the router no gradient at k = 1.
         2. load counts the choices without noise, those that evaluation makes, and has the gradient of the
            probabilities: equal shares under noise can be one expert's alone without it, and counts teach nothing
            (tests/properties/test_routing.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medmoe_cli.core.nn.moe.routers import choose_experts, pass_through
from medmoe_cli.core.nn.moe.routing import Routing


def cv_squared(amounts_E: Tensor) -> Tensor:
    """Squared coefficient of variation, population variance over squared mean; 0 when all amounts are equal."""
    amounts_E = amounts_E.float()
    return amounts_E.var(unbiased=False) / amounts_E.mean().square().clamp_min(torch.finfo(torch.float32).tiny)


def importance(routing: Routing) -> Tensor:
    """(E,) probability mass that all routed items (batch and tokens together) give each expert."""
    return routing.probabilities.flatten(0, -2).sum(0)


def balance_loss(routing: Routing) -> Tensor:
    """CV^2(importance) + CV^2(load): 0 when every expert gets the same."""
    return cv_squared(importance(routing)) + cv_squared(settled_load(routing))


def settled_load(routing: Routing) -> Tensor:
    """(E,) number of items that each expert would receive without noise, with the gradient of their probabilities."""
    settled = choose_experts(routing.logits.float().flatten(0, -2), num_active=routing.indices.shape[-1])
    return pass_through(settled.load, routing.indices.shape[-1] * importance(settled))


def entropy(routing: Routing) -> Tensor:
    """Mean entropy in nats of the items' distributions over all experts; 0 when every router is certain."""
    probabilities = routing.probabilities.float()
    logs = probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()  # keeps the gradient finite at zero
    return -(probabilities * logs).sum(-1).mean()
