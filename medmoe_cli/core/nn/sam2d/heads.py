"""SAM's prompt encoder and two-way mask decoder, taken from segment_anything as they are, at any width and size."""

from __future__ import annotations

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from torch import Tensor, nn


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


def build_mask_decoder(
    *, width: int, num_heads: int = 8, num_masks: int = 4, mlp_width: int = 2048, score_head: bool = True
) -> MaskDecoder:
    """Mask decoder with SAM's two two-way layers.

    Args:
        width: channels.
        num_heads: attention heads.
        num_masks: mask tokens; SAM has the single-mask one and three more.
        mlp_width: inner width of the layers' MLPs.
        score_head: with the IoU head; without one the decoder's own `forward` cannot be called.
    """
    decoder = MaskDecoder(
        num_multimask_outputs=num_masks - 1,
        transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=mlp_width, num_heads=num_heads),
        transformer_dim=width,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    if not score_head:
        del decoder.iou_prediction_head
    return decoder


class SelfPromptEncoder(nn.Module):
    """What a decoder without user prompts needs of SAM's prompt encoder, under SAM's names.

    Args:
        width: channels of the decoder.
        grid: side of the image embedding in tokens.
    """

    def __init__(self, *, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.pe_layer = PositionEmbeddingRandom(width // 2)
        self.no_mask_embed = nn.Embedding(1, width)

    def position(self) -> Tensor:
        """(1, D, h, w) position code of the grid."""
        return self.pe_layer((self.grid, self.grid))[None]

    def dense(self) -> Tensor:
        """(1, D, 1, 1) what stands for 'no mask'."""
        return self.no_mask_embed.weight.reshape(1, -1, 1, 1)
