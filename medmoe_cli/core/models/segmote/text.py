"""Text prompts: one token per class name, learned or made by CLIP's text encoder.

Both are self-contained once trained: the learned table is a parameter, CLIP's features of the class texts a buffer, so
a saved model needs no CLIP folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medmoe_cli.core.base.errors import CheckpointError


class LearnedText(nn.Module):
    """A learned token per class name; the paper is silent on what stands in when no text encoder is at hand."""

    def __init__(self, *, num_classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_classes, width)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, class_index_Q: Tensor) -> Tensor:
        """(Q, D) token of each class; an index of -1 (no text) gives some token, to be masked by the caller."""
        return self.table(class_index_Q.clamp(min=0))


class ClipText(nn.Module):
    """A linear map of CLIP's frozen text features of the class texts (public code: `text_out_dim`)."""

    def __init__(self, *, num_classes: int, width: int, clip_width: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes, clip_width))
        self.project = nn.Linear(clip_width, width)

    features: Tensor

    def forward(self, class_index_Q: Tensor) -> Tensor:
        """(Q, D) token of each class; an index of -1 (no text) gives some token, to be masked by the caller."""
        return self.project(self.features[class_index_Q.clamp(min=0)])


def build_text(
    kind: Literal["none", "learned", "clip"], *, num_classes: int, width: int, clip_width: int
) -> LearnedText | ClipText | None:
    """The text prompts of that kind; None for a model without."""
    if kind == "learned":
        return LearnedText(num_classes=num_classes, width=width)
    if kind == "clip":
        return ClipText(num_classes=num_classes, width=width, clip_width=clip_width)
    return None


@torch.no_grad()
def clip_features(folder: Path, texts: Sequence[str]) -> Tensor:
    """CLIP's pooled text features (number of texts, width), from a local folder in transformers' format.

    Raises:
        CheckpointError: the folder is missing or holds no CLIP text model and tokenizer.
    """
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    if not folder.is_dir():
        raise CheckpointError(
            "CLIP folder not found",
            where=folder,
            fix="set model.clip_path to a folder with a CLIP model, or text: learned",
        )
    logging.set_verbosity_error()
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        loaded: Any = CLIPTextModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "not a CLIP model",
            where=folder,
            why=" ".join(str(error).split())[:200],
            fix="the folder needs config.json, model.safetensors and the tokenizer's files",
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would leave these at random values with only a warning.
        raise CheckpointError(
            f"{len(missing)} tensors of the CLIP text encoder are missing",
            where=folder,
            why=f"first: {missing[0]}",
            fix="download the model again",
        )
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    return model.eval()(**tokens).pooler_output.float()
