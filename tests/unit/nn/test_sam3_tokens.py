"""CLIP's tokenizer rebuilt from a table of numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.nn.sam3.tokens import Tokenizer, learn_merges, merge_table
from medmoe_cli.core.nn.sam3.words import small_vocabulary

SIZE = 640


def tokenizer(length: int = 24) -> Tokenizer:
    return Tokenizer(
        merge_table(learn_merges(small_vocabulary(), size=SIZE), vocabulary=None, size=SIZE), length=length
    )


def test_words_of_the_small_vocabulary_are_one_token_each() -> None:
    read = tokenizer()
    for word in small_vocabulary():
        assert len(read.words(word)) == 3, word
    ids = {tuple(read.words(word)) for word in small_vocabulary()}
    assert len(ids) == len(small_vocabulary())


def test_texts_are_padded_to_one_length_and_cut_to_it() -> None:
    tokens = tokenizer(length=6)(["Left  Kidney", "liver and spleen and stomach and aorta", ""])
    assert tokens.ids.shape == tokens.mask.shape == (3, 6)
    assert tokens.mask.sum(1).tolist() == [4, 6, 2]
    start, end = 512 + SIZE, 513 + SIZE
    assert tokens.ids[:, 0].tolist() == [start] * 3
    assert tokens.ids[torch.arange(3), tokens.mask.sum(1) - 1].tolist() == [end] * 3
    assert torch.equal(tokens.ids[0, 1:3], tokenizer()(["left kidney"]).ids[0, 1:3])


@given(text=st.text(max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_text_can_be_read(text: str) -> None:
    found = _SHARED.words(text)
    assert found[0] == 512 + SIZE
    assert found[-1] == 513 + SIZE
    assert len(found) <= 24


def test_without_merges_a_model_reads_bytes() -> None:
    read = Tokenizer(torch.empty(0, 2, dtype=torch.int32), length=16)
    assert len(read.words("liver")) == 7
    assert read.words("liver") != read.words("river")


def test_learning_is_the_same_whatever_the_order_of_words() -> None:
    words = ["liver", "spleen", "left", "lung"]
    assert learn_merges(words, size=50) == learn_merges([*words[::-1], "left"], size=50)


def test_another_numbering_than_clips_is_refused() -> None:
    merges = learn_merges(["liver"], size=10)
    with pytest.raises(ValueError, match="otherwise than CLIP"):
        merge_table(merges, vocabulary={"!": 5}, size=len(merges))
    with pytest.raises(ValueError, match="no earlier one makes"):
        merge_table([("liv", "er</w>")], vocabulary=None, size=4)
    with pytest.raises(ValueError, match="room for 1"):
        merge_table(merges, vocabulary=None, size=1)


_SHARED = tokenizer()
