"""SegMoTE's card."""

from __future__ import annotations

from medmoe_cli.core.config.card import Card

CARD = Card(
    name="segmote",
    title="SegMoTE",
    paper="SegMoTE: Token-Level Mixture of Experts for Medical Image Segmentation, CVPR 2026",
    dims=2,
    prompts=("point", "box", "text", "mask", "none"),
    licence="MIT",
    summary="Routed expert tokens in the mask decoder of a frozen SAM; points, boxes, text, or no prompt at all",
    presets=("segmote-medseg-hq", "segmote-imisnet-b", "segmote-tiny"),
)
