"""MoE-SAM's card."""

from __future__ import annotations

from medmoe_cli.core.config.card import Card

CARD = Card(
    name="moe-sam",
    title="MoE-SAM",
    paper="MoE-SAM: Enhancing SAM for Medical Image Segmentation with Mixture-of-Experts, MICCAI 2025",
    dims=2,
    prompts=("none",),
    licence="MIT",
    summary="Adapters in a SAM encoder, experts that choose among the layers' features; all classes, no prompt",
    presets=("moe-sam-acdc", "moe-sam-synapse", "moe-sam-btcv", "moe-sam-mmwhs", "moe-sam-tiny"),
)
