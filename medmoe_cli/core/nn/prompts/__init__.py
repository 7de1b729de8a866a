"""Prompts: simulated from masks, and collated into tensors."""

from medmoe_cli.core.nn.prompts.collate import collate
from medmoe_cli.core.nn.prompts.query import Click, QueryPrompt
from medmoe_cli.core.nn.prompts.simulate import (
    central_point,
    correction_click,
    jittered_box,
    mask_prompt,
    random_point,
    simulate,
    tight_box,
)

__all__ = [
    "Click",
    "QueryPrompt",
    "central_point",
    "collate",
    "correction_click",
    "jittered_box",
    "mask_prompt",
    "random_point",
    "simulate",
    "tight_box",
]
