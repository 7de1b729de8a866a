"""SAM's prompt encoder and two-way mask decoder, taken from segment_anything as they are, at any width and size."""

from __future__ import annotations

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer


def build_prompt_encoder(*, width: int, image_size: int, grid: int) -> PromptEncoder:
    """Prompt encoder for square images.

    Its own `+ 0.5` shift means that it takes pixel indices; `Prompts` hold pixel-edge coordinates (a pixel's centre
    at + 0.5), so callers subtract 0.5 first.

    Args:
        width: channels of the decoder.
        image_size: side of the input in pixels.
        grid: side of the image embedding in tokens.
    """
    return PromptEncoder(
        embed_dim=width,
        image_embedding_size=(grid, grid),
        input_image_size=(image_size, image_size),
        mask_in_chans=16,
    )


def build_mask_decoder(*, width: int, num_heads: int = 8) -> MaskDecoder:
    """Mask decoder with SAM's two two-way layers, three multi-mask outputs and IoU head."""
    return MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=2048, num_heads=num_heads),
        transformer_dim=width,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
