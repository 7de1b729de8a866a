"""CLIP's tokenizer from a table of byte pairs, so that a model's own tensors carry all that reading a text needs.

A CLIP vocabulary is determined by its merges: 256 bytes, the same bytes at a word's end, one token per merge in order,
and the two ends of a text. A merge is kept as the ids of the two tokens that it joins, an integer table (M, 2).
A model without any merge reads bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
_NUM_BYTES = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Texts as a text encoder takes them, padded to one length that does not depend on the other texts.

    Attributes:
        ids: int64 (C, T); padding repeats the end token.
        mask: bool (C, T), False on padding.
    """

    ids: Tensor
    mask: Tensor


class Tokenizer:
    """Reads texts.

    Args:
        merges_M2: int (M, 2) ids of the tokens that each merge joins; rows of -1 pad the table and are left out.
        length: tokens of a text, both ends included; what is longer is cut.
    """

    def __init__(self, merges_M2: Tensor, *, length: int) -> None:
        names = _byte_names()
        pairs: list[tuple[str, str]] = []
        for first, second in merges_M2.tolist():
            if first < 0:
                names.append(f"<|unused{len(names)}|>")
                continue
            pairs.append((names[first], names[second]))
            names.append(names[first] + names[second])
        vocabulary = {name: index for index, name in enumerate([*names, START, END])}
        self._length, self._end = length, vocabulary[END]
        tables: dict[str, Any] = {"vocab": vocabulary, "merges": pairs}
        self._tokenizer = CLIPTokenizer(**tables)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of each text."""
        ids = torch.full((len(texts), self._length), self._end, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, text in enumerate(texts):
            found = self.words(text)
            ids[row, : len(found)] = torch.tensor(found)
            mask[row, : len(found)] = True
        return Tokens(ids=ids, mask=mask)

    def words(self, text: str) -> list[int]:
        """The ids of one text, both ends included, no longer than a text may be."""
        found: list[int] = self._tokenizer(text)["input_ids"]
        return found if len(found) <= self._length else [*found[: self._length - 1], self._end]


def merge_table(merges: Sequence[tuple[str, str]], *, vocabulary: Mapping[str, int] | None, size: int) -> Tensor:
    """The table of a CLIP tokenizer's merges, int32 (size, 2).

    Args:
        merges: pairs of token texts, in order.
        vocabulary: token texts to ids as the tokenizer's file has them; None where it follows from the merges.
        size: number of rows; missing ones become -1.

    Raises:
        ValueError: more merges than rows, or another vocabulary than CLIP's construction gives.
    """
    if len(merges) > size:
        raise ValueError(f"{len(merges)} merges for a vocabulary that has room for {size}")
    ids = {name: index for index, name in enumerate(_byte_names())}
    table = torch.full((size, 2), -1, dtype=torch.int32)
    for row, (first, second) in enumerate(merges):
        if first not in ids or second not in ids:
            raise ValueError(f"merge {row} joins '{first}' and '{second}', which no earlier one makes")
        table[row] = torch.tensor([ids[first], ids[second]], dtype=torch.int32)
        ids[first + second] = 2 * _NUM_BYTES + row
    ids |= {START: 2 * _NUM_BYTES + size, END: 2 * _NUM_BYTES + size + 1}
    if vocabulary is not None:
        differing = [name for name, index in ids.items() if vocabulary.get(name) != index]
        if differing:
            raise ValueError(f"it numbers {len(differing)} tokens otherwise than CLIP's, first '{differing[0]}'")
    return table


def learn_merges(words: Sequence[str], *, size: int) -> list[tuple[str, str]]:
    """Byte pairs learned from words (Sennrich et al. 2016, algorithm 1).

    The most frequent neighbours are joined, ties by their letters, until all words are one token or the table is full.
    """
    split = [[*word[:-1], word[-1] + WORD_END] for word in sorted(set(words)) if word]
    merges: list[tuple[str, str]] = []
    while len(merges) < size:
        counts: dict[tuple[str, str], int] = {}
        for letters in split:
            for pair in pairwise(letters):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_joined(letters, best) for letters in split]
    return merges


def _joined(letters: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for letter in letters:
        if found and (found[-1], letter) == pair:
            found[-1] += letter
        else:
            found.append(letter)
    return found


def _byte_names() -> list[str]:
    """CLIP's names of the 256 bytes, in its order, and of the same at a word's end.

    The order is that of the bytes that can be printed, then the others; `tokenizers` knows the names only.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable]
    letters += [chr(_NUM_BYTES + place) for place in range(_NUM_BYTES - len(printable))]
    assert sorted(letters) == sorted(ByteLevel.alphabet())
    return [*letters, *(letter + WORD_END for letter in letters)]
