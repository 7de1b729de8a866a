"""Mixtures of experts: routing, grouped experts, balance."""

from medmoe_cli.core.nn.moe.balance import balance_loss, cv_squared, entropy, importance, settled_load
from medmoe_cli.core.nn.moe.experts import Experts
from medmoe_cli.core.nn.moe.low_rank import LowRankExperts
from medmoe_cli.core.nn.moe.routers import (
    NoisyRouter,
    choose_experts,
    choose_items,
    choose_one,
    pass_through,
    select_above,
)
from medmoe_cli.core.nn.moe.routing import Routing

__all__ = [
    "Experts",
    "LowRankExperts",
    "NoisyRouter",
    "Routing",
    "balance_loss",
    "choose_experts",
    "choose_items",
    "choose_one",
    "cv_squared",
    "entropy",
    "importance",
    "pass_through",
    "select_above",
    "settled_load",
]
