"""How SegMoTE trains: one stage, whose trainable parts follow the config (paper sections 3.4, 4 and 4.2)."""

from __future__ import annotations

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.nn.segmenter import PromptKind, Stage

NEW_PARTS = ("mote.", "answer.", "score_head.", "ppt.", "text.")
ENCODER_PARTS = ("image_encoder.", "channel_mix.")
# SAM's own mask heads and IoU head make no part of SegMoTE's answer: they stay as they are.
DECODER_PARTS = (
    "prompt_encoder.",
    "mask_decoder.transformer.",
    "mask_decoder.iou_token.",
    "mask_decoder.mask_tokens.",
    "mask_decoder.output_upscaling.",
)


def training_stages(
    config: SegmoteConfig, *, has_ppt: bool, has_text: bool, learns_channels: bool
) -> tuple[Stage, ...]:
    """The stages of a model.

    Args:
        config: the `model` section.
        has_ppt: the model prompts itself.
        has_text: the model takes class names.
        learns_channels: images have a number of channels that SAM does not take, so a learned mix comes first.
    """
    trainable: tuple[str, ...] = NEW_PARTS
    if config.train_encoder:
        trainable += ENCODER_PARTS
    elif learns_channels:
        trainable += ENCODER_PARTS[1:]
    if config.train_decoder:
        trainable += DECODER_PARTS
    return (
        Stage(
            name="experts",
            task="prompted",
            trainable=trainable,
            prompt_mix=_prompt_mix(config, has_ppt=has_ppt, has_text=has_text),
            prior_mix=_normalised(
                {kind: weight for kind, weight in config.prior_mix.items() if kind != "text" or has_text}, "prior_mix"
            )
            if has_ppt
            else {},
            correction_rounds=config.correction_rounds,
            correction_share=config.correction_share,
            losses=dict(config.loss_weights.items()),
        ),
    )


def _prompt_mix(config: SegmoteConfig, *, has_ppt: bool, has_text: bool) -> dict[PromptKind, float]:
    """First prompts the model understands, summing to one; self-prompted queries take their share of a PPT model."""
    mix: dict[PromptKind, float] = {
        kind: weight for kind, weight in config.prompt_mix.items() if kind != "text" or has_text
    }
    share = config.self_prompt_share if has_ppt else 0.0
    if share == 1:
        return {"none": 1.0}
    mix = {kind: weight * (1 - share) for kind, weight in _normalised(mix, "prompt_mix").items()}
    return {**mix, "none": share} if share else mix


def _normalised(mix: dict[PromptKind, float], key: str) -> dict[PromptKind, float]:
    total = sum(mix.values())
    if total <= 0:
        raise ConfigError(
            f"model.{key} leaves no prompt",
            why="the kinds with a weight are not available for this dataset",
            fix=f"set model.{key} with a weight for point or box" if key == "prompt_mix" else f"give model.{key} none",
        )
    return {kind: weight / total for kind, weight in mix.items() if weight > 0}
