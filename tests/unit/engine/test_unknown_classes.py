"""Classes that an image's dataset does not label: part of the background in the loss, and counted nowhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmoe_cli.core.engine.losses import Target, combine, cross_entropy_loss, merge_unknown, multi_class_dice_loss
from medmoe_cli.core.nn.segmenter import Output

WEIGHTS = {"cross_entropy": 1.0, "dice": 1.0, "batch_dice": 1.0}


def logits(seed: int = 0, queries: int = 2, channels: int = 4) -> Tensor:
    return torch.randn(queries, channels, 5, 6, generator=torch.Generator().manual_seed(seed))


def losses(answer: Tensor, labels: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    target = Target(masks=labels, valid=torch.ones(labels.shape, dtype=torch.bool), known=known)
    return combine(Output(logits=answer), target, WEIGHTS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), known=st.lists(st.booleans(), min_size=3, max_size=3))
def test_merging_keeps_known_probabilities_and_gives_the_rest_to_the_background(seed: int, known: list[bool]) -> None:
    answer = logits(seed)
    before = answer.softmax(1)
    after = merge_unknown(answer, torch.tensor([known, known])).softmax(1)
    for place, is_known in enumerate(known, start=1):
        wanted = before[:, place] if is_known else torch.zeros_like(before[:, place])
        assert torch.allclose(after[:, place], wanted, atol=1e-6)
    unknown = [0, *(place for place, is_known in enumerate(known, start=1) if not is_known)]
    assert torch.allclose(after[:, 0], before[:, unknown].sum(1), atol=1e-6)


def test_where_all_is_known_nothing_changes() -> None:
    answer, labels = logits(), torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    plain, merged = losses(answer, labels, None), losses(answer, labels, torch.ones(2, 3, dtype=torch.bool))
    for name in WEIGHTS:
        assert torch.allclose(plain[name], merged[name], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_an_unknown_class_may_be_anywhere_in_the_background(seed: int) -> None:
    """Moving probability between background and an unknown class costs nothing, and has no gradient."""
    labels = torch.randint(0, 3, (1, 5, 6), generator=torch.Generator().manual_seed(seed))
    known = torch.tensor([[True, True, False]])
    answer = logits(seed, queries=1)
    total = torch.logsumexp(answer[:, [0, 3]], dim=1)
    moved = answer.clone()
    share = torch.rand(total.shape, generator=torch.Generator().manual_seed(seed)) * 0.98 + 0.01
    moved[:, 0], moved[:, 3] = total + share.log(), total + (1 - share).log()
    one, other = losses(answer, labels, known), losses(moved, labels, known)
    for name in WEIGHTS:
        assert torch.allclose(one[name], other[name], atol=1e-5)


def test_known_classes_still_learn_and_gradients_are_finite() -> None:
    answer = logits().requires_grad_()
    labels = torch.randint(0, 3, (2, 5, 6), generator=torch.Generator().manual_seed(2))
    known = torch.tensor([[True, True, False], [False, True, False]])
    labels[1][labels[1] == 1] = 0
    torch.stack(list(losses(answer, labels, known).values())).sum().backward()
    assert answer.grad is not None
    assert torch.isfinite(answer.grad).all()
    assert answer.grad[0, 1].abs().sum() > 0
    # Where the truth is a known class, every wrong claim is pushed down, an unknown class's too.
    assert (answer.grad[0, 3][labels[0] == 1] > 0).all()


def test_dice_leaves_unknown_classes_out_and_counts_each_image_by_its_own() -> None:
    labels = torch.zeros(2, 2, 2, dtype=torch.int64)
    labels[0, 0] = 1
    perfect = F.one_hot(labels, 3).movedim(-1, 1).float() * 40 - 20
    perfect[:, 2] = torch.where(labels == 0, 40.0, -20.0)  # class 2 is claimed of all the background
    known = torch.tensor([[True, False], [True, False]])
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    merged = merge_unknown(perfect, known)
    found = multi_class_dice_loss(merged, labels, valid, known=known)
    assert found == pytest.approx([0.0, 0.0], abs=1e-3)
    assert cross_entropy_loss(merged, labels, valid).max() < 1e-3
    wrong = multi_class_dice_loss(perfect, labels, valid)
    assert wrong.min() > 0.2


def test_known_rows_of_a_batch_are_joined() -> None:
    from medmoe_cli.core.engine.batch import Item, join

    def item(known: np.ndarray[tuple[int], np.dtype[np.bool_]] | None) -> Item:
        grid = np.zeros((2, 2))
        return Item(
            key="a",
            image=np.zeros((1, 2, 2), np.float32),
            maps=None,
            label=grid.astype(np.int64),
            valid=grid == 0,
            queries=(),
            finite=True,
            known=known,
        )

    assert join([item(None), item(None)]).known is None
    both = join([item(None), item(np.array([True, False]))]).known
    assert both is not None
    assert both.tolist() == [[True, True], [True, False]]
