"""What DA-SAM3 decides from its config and a plan, in words; free of torch."""

from __future__ import annotations

from collections.abc import Mapping

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.models.da_sam3.depths import explain_depths


def reasons(config: DaSam3Config, plan: Plan) -> Mapping[str, str]:
    """The reason of each choice, by what it is about."""
    shown = config.shown_size(plan.input_size)
    why = "model.image_size" if config.image_size is not None else _why_shown(config, plan.input_size, shown)
    lines = {"image_size": f"{shown}: {why}"}
    if config.experts == "none":
        return {**lines, "moe_layers": "none: model.experts is none"}
    num_layers = config.sizes_at(shown).fusion_layers
    return {**lines, "moe_layers": explain_depths(num_layers, chosen=config.moe_layers)}


def _why_shown(config: DaSam3Config, input_size: int, shown: int) -> str:
    if config.backbone == "tiny":
        return f"whole patches of {config.patch_size} pixels for an input of {input_size}"
    return f"SAM3's windows of 24 patches fit 336, 672 and 1008 pixels; the next for an input of {input_size}"
