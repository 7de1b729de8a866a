"""The sizes of a SAM3: those of the published model, and of smaller ones that are built alike. Free of torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from medmoe_cli.core.config.sections import Section


class Sam3Sizes(Section):
    """Widths, depths and heads; the defaults are the published model's (facebook/sam3).

    Attributes:
        vision_*: the image encoder, a ViT that attends within windows of `window` patches but for `global_blocks`.
        pretrain_size: side, in pixels, that its position table covers; larger images repeat the table.
        text_*: the text encoder, CLIP's; `vocabulary` tokens, texts of at most `text_length`.
        width: of fusion encoder, decoder and mask head, with `heads` heads and perceptrons of `mlp`.
        dropout: of fusion encoder and decoder while they train.
    """

    vision_width: int = Field(default=1024, ge=8)
    vision_depth: int = Field(default=32, ge=1)
    vision_heads: int = Field(default=16, ge=1)
    vision_mlp: int = Field(default=4736, ge=1)
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    window: int = Field(default=24, ge=1)
    patch: int = Field(default=14, ge=4)
    pretrain_size: int = Field(default=336, ge=16)
    text_width: int = Field(default=1024, ge=8)
    text_depth: int = Field(default=24, ge=1)
    text_heads: int = Field(default=16, ge=1)
    text_mlp: int = Field(default=4096, ge=1)
    text_projection: int = Field(default=512, ge=1)
    text_length: int = Field(default=32, ge=4)
    vocabulary: int = Field(default=49408, ge=514)
    width: int = Field(default=256, ge=16)
    heads: int = Field(default=8, ge=1)
    mlp: int = Field(default=2048, ge=1)
    fusion_layers: int = Field(default=6, ge=1)
    decoder_layers: int = Field(default=6, ge=1)
    geometry_layers: int = Field(default=3, ge=1)
    queries: int = Field(default=200, ge=1)
    mask_stages: int = Field(default=3, ge=2)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        for width, heads, name in (
            (self.vision_width, 4 * self.vision_heads, "vision_width is not a multiple of four times vision_heads"),
            (self.text_width, self.text_heads, "text_width is not a multiple of text_heads"),
            (self.width, self.heads, "width is not a multiple of heads"),
            (self.width, 8, "width is not a multiple of 8"),
        ):
            if width % heads:
                raise ValueError(name)
        if self.pretrain_size % self.patch:
            raise ValueError("pretrain_size is not a multiple of patch")
        return self

    @property
    def num_merges(self) -> int:
        """Byte pairs of the tokenizer: what the vocabulary holds beside 512 bytes and the two ends of a text."""
        return self.vocabulary - 514


PUBLISHED = Sam3Sizes()
IMAGE_SIZES = (336, 672, 1008)  # sides, in pixels, that are whole windows of the published model


def image_size_for(input_size: int) -> int:
    """The side at which images of `input_size` are shown to the published model: the next of `IMAGE_SIZES`."""
    return next((size for size in IMAGE_SIZES if size >= input_size), IMAGE_SIZES[-1])
