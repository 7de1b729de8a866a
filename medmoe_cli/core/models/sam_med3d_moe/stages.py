"""How each role trains: one stage, whose trainable parts are those that take part in an answer."""

from __future__ import annotations

from collections.abc import Mapping

from medmoe_cli.core.models.sam_med3d_moe.config import FirstPrompt, SamMed3dMoeConfig
from medmoe_cli.core.nn.segmenter import PromptKind, Stage

ENCODER = "image_encoder."
# SAM's multi-mask heads, its IoU head and its embedding of 'no mask' make no part of an answer: they stay as they are.
PROMPT_PARTS = (
    "prompt_encoder.point_embeddings.",
    "prompt_encoder.not_a_point_embed.",
    "prompt_encoder.mask_downscaling.",
)
DECODER_PARTS = (
    "mask_decoder.transformer.",
    "mask_decoder.iou_token.",
    "mask_decoder.mask_tokens.",
    "mask_decoder.output_upscaling.",
    "mask_decoder.output_hypernetworks_mlps.0.",
    "mask_decoder.detail_",
)
QUERY_TOKENS = "query_tokens"
GATE = "gate."


def training_stage(config: SamMed3dMoeConfig, *, binary: bool) -> Stage:
    """The stage of the config's role; an expert of several classes is asked by name where it comes without a prompt."""
    mix = _normalised(config.prompt_mix)
    losses: dict[str, float] = {name: weight for name, weight in config.losses.items() if weight > 0}
    trainable: tuple[str, ...] = (ENCODER, *PROMPT_PARTS, *DECODER_PARTS)
    learning_rate = None
    if config.role == "expert":
        share = config.prompt_free_share
        mix = {kind: weight * (1 - share) for kind, weight in mix.items() if share < 1}
        if share:
            mix["none" if binary else "text"] = share
        trainable, learning_rate = (*DECODER_PARTS, QUERY_TOKENS), config.expert_learning_rate
    elif config.role == "merged":
        losses["owner"] = config.owner_weight
        trainable, learning_rate = (GATE,), config.gate_learning_rate
    return Stage(
        name="gate" if config.role == "merged" else config.role,
        task="prompted",
        trainable=trainable,
        learning_rate=learning_rate,
        prompt_mix=mix,
        correction_rounds=config.correction_rounds,
        correction_share=config.correction_share,
        losses=losses,
    )


def _normalised(mix: Mapping[FirstPrompt, float]) -> dict[PromptKind, float]:
    total = sum(mix.values())
    return {kind: weight / total for kind, weight in mix.items() if weight > 0}
