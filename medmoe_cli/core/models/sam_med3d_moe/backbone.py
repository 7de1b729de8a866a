"""Tensors of another model put into this one's encoder, prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.models.sam_med3d_moe.stages import QUERY_TOKENS
from medmoe_cli.core.nn.sam3d import resize_table_3d
from medmoe_cli.core.nn.weights import load_into

BACKBONE_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def load_parts(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Copy a backbone's or a general model's tensors; position tables are resized to the input size.

    Args:
        model: with the parts under SAM-Med3D's names.
        tensors: by those names; a merged model's gate and experts are left alone.
        name: of the model they come from, for errors.

    Raises:
        CheckpointError: it is an expert, or a tensor is missing or has another shape.
    """
    if QUERY_TOKENS in tensors:
        raise CheckpointError(
            "not a general model",
            where=f"model '{name}'",
            why="it is an expert, whose decoder has learned one task",
            fix="name the general model that it was started from",
        )
    parts = {key: tensor for key, tensor in tensors.items() if key.startswith(BACKBONE_PARTS)}
    report = load_into(model, parts, resize=resize_table_3d, where=f"model '{name}'")
    missing = [key for key in report.missing if key.startswith(BACKBONE_PARTS)]
    if missing or report.unexpected:
        strange = [*missing, *report.unexpected]
        raise CheckpointError(
            f"{len(missing)} tensors are missing, {len(report.unexpected)} are unknown",
            where=f"model '{name}'",
            why=", ".join(strange[:3]) + (" and more" if len(strange) > 3 else ""),
            fix="give this model the keys of the general one: backbone, stem, widths",
        )
