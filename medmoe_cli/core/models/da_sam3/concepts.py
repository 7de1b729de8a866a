"""The concepts a model can be asked for, and their texts as the text encoder sees them.

While the text encoder is frozen, or a model only answers, all texts are encoded once and kept; while it trains, the
texts of a batch are encoded with gradient at every step.
Shapes: C concepts, Q queries, T tokens of a text (a constant), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Sam3Model

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.nn.sam3.tokens import Tokenizer, Tokens, learn_merges, merge_table
from medmoe_cli.core.nn.sam3.words import small_vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What Q queries ask for: features of their texts' tokens (Q, T, D), and which of these are no padding (Q, T)."""

    features: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    key: tuple[object, ...]
    features: Tensor


class Concepts(nn.Module):
    """Texts and their features.

    Args:
        texts: of the model's own classes, in class order.
        num_merges: rows of the tokenizer's table of byte pairs, which is part of the model's tensors.
        length: tokens of a text.
    """

    merges: Tensor

    def __init__(self, texts: Sequence[str], *, num_merges: int, length: int) -> None:
        super().__init__()
        merges = learn_merges(small_vocabulary(), size=num_merges)
        self.register_buffer("merges", merge_table(merges, vocabulary=None, size=num_merges))
        self._length = length
        self._own = tuple(readable(text) for text in texts)
        self._texts = self._own
        self._tokens: tuple[tuple[object, ...], Tokens] | None = None
        self._kept: _Kept | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All that can be asked for: the classes first."""
        return self._texts

    def name(self, names: Sequence[str]) -> None:
        """Add names to the classes, in place of those added before.

        Raises:
            ConfigError: a name holds nothing to read.
        """
        texts = tuple(readable(name) for name in names)
        empty = [name for name, text in zip(names, texts, strict=True) if not text]
        if empty:
            raise ConfigError(f"nothing to look for in '{empty[0]}'", why="it holds no word", fix="name a structure")
        if self._own + texts != self._texts:
            self._texts, self._tokens, self._kept = self._own + texts, None, None

    def asked(self, sam3: Sam3Model, index_Q: Tensor) -> Asked:
        """Features and mask of each query's text.

        Raises:
            ConfigError: a query asks for nothing by name.
        """
        if bool((index_Q < 0).any()):
            raise ConfigError("a query without a name", why="DA-SAM3 finds what a text names", fix="ask with --text")
        tokens = self.tokens()
        ids_CT, mask_CT = tokens.ids.to(index_Q.device), tokens.mask.to(index_Q.device)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in _text_parameters(sam3)):
            used_U, row_Q = index_Q.unique(return_inverse=True)
            features_UTD = _encoded(sam3, ids_CT[used_U], mask_CT[used_U])
            return Asked(features=features_UTD[row_Q], mask=mask_CT[index_Q])
        return Asked(features=self._features(sam3, ids_CT, mask_CT)[index_Q], mask=mask_CT[index_Q])

    def tokens(self) -> Tokens:
        """Tokens of all texts, read anew when the tokenizer's table has been loaded."""
        key = (self.merges.data_ptr(), self.merges._version)
        if self._tokens is None or self._tokens[0] != key:
            self._tokens = (key, Tokenizer(self.merges.cpu(), length=self._length)(self._texts))
        return self._tokens[1]

    def _features(self, sam3: Sam3Model, ids_CT: Tensor, mask_CT: Tensor) -> Tensor:
        """(C, T, D) of all texts, computed when texts or weights have changed."""
        # Every update in place counts up a tensor's version, so features of older weights are never used.
        weights = [(parameter.data_ptr(), parameter._version) for parameter in _text_parameters(sam3)]
        key = (self._texts, ids_CT.device, self.merges._version, tuple(weights))
        if self._kept is None or self._kept.key != key:
            # Not in inference mode, whose tensors no later training could use.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = _Kept(key=key, features=_encoded(sam3, ids_CT.clone(), mask_CT.clone()))
        return self._kept.features


def readable(name: str) -> str:
    """A class name as text: 'left_kidney' is read as 'left kidney'."""
    return " ".join(name.replace("_", " ").split())


def _text_parameters(sam3: Sam3Model) -> list[nn.Parameter]:
    return [*sam3.text_encoder.parameters(), *sam3.text_projection.parameters()]


def _encoded(sam3: Sam3Model, ids_CT: Tensor, mask_CT: Tensor) -> Tensor:
    with torch.autocast(ids_CT.device.type, enabled=False):
        features: Tensor = sam3.get_text_features(input_ids=ids_CT, attention_mask=mask_CT.long()).pooler_output
    return features
