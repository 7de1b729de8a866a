"""SAM-Med3D-MoE's card."""

from __future__ import annotations

from medmoe_cli.core.config.card import Card

CARD = Card(
    name="sam-med3d-moe",
    title="SAM-Med3D-MoE",
    paper="SAM-Med3D-MoE: Towards a Non-Forgetting Segment Anything Model via Mixture of Experts for 3D Medical Image "
    "Segmentation, MICCAI 2024",
    dims=3,
    prompts=("point", "box", "mask", "text", "none"),
    licence="MIT",
    summary="A general 3D decoder and task experts over one encoder; a gate adds skills and forgets nothing",
    presets=("sam-med3d-moe-tiny", "sam-med3d-moe-sppin", "sam-med3d-moe-weak15"),
)
