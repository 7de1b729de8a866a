"""DA-SAM3's card."""

from __future__ import annotations

from medmoe_cli.core.config.card import Card

CARD = Card(
    name="da-sam3",
    title="DA-SAM3",
    paper="Dual-Adaptive SAM3: Hierarchical Routing over Low-Rank Expert Layers for Parameter-Efficient Medical Image "
    "Segmentation, 2026",
    dims=2,
    prompts=("text",),
    licence="MIT",
    summary="A frozen SAM3 that finds what a text names; tokens are routed by text and image over low-rank experts",
    presets=("da-sam3-synapse", "da-sam3-btcv", "da-sam3-mmwhs", "da-sam3-acdc", "da-sam3-tiny"),
)
