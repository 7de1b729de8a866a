"""Losses that judge the answers to several names together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.engine.losses import Target, choice_loss, class_dice_loss, combine
from medmoe_cli.core.nn.segmenter import Output

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *, queries: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(queries, 1, 6, 6, generator=rng)
    labels = torch.randint(0, 4, (2, 6, 6), generator=rng)
    return logits, labels


def asked(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every class 1 to 3 of every image: masks, image and class of each query."""
    images = torch.arange(len(labels)).repeat_interleave(3)
    classes = torch.arange(1, 4).repeat(len(labels))
    return (labels[images] == classes[:, None, None])[:, None], images, classes


@given(seed=SEEDS)
@settings(max_examples=20)
def test_choice_over_all_classes_is_the_cross_entropy_of_a_label_map(seed: int) -> None:
    logits, labels = draw(seed, queries=6)
    masks, images, _ = asked(labels)
    found = choice_loss(logits, masks, torch.ones(6, 6, 6, dtype=torch.bool), images)
    maps = torch.cat([torch.zeros(2, 1, 6, 6), logits.reshape(2, 3, 6, 6)], dim=1)
    expected = F.cross_entropy(maps, labels, reduction="none").mean((1, 2))
    torch.testing.assert_close(found, expected[images], atol=1e-6, rtol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_neither_the_order_of_the_queries_nor_padding_counts(seed: int) -> None:
    logits, labels = draw(seed, queries=6)
    masks, images, _ = asked(labels)
    valid = torch.ones(6, 6, 6, dtype=torch.bool)
    valid[:, 4:] = False
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    found = choice_loss(logits, masks, valid, images)
    logits[:, :, 4:] = 77
    torch.testing.assert_close(choice_loss(logits[order], masks[order], valid, images[order]), found[order])


def test_where_masks_overlap_either_name_is_right() -> None:
    logits = torch.tensor([9.0, -9.0]).reshape(2, 1, 1, 1)
    masks, valid = torch.ones(2, 1, 1, 1, dtype=torch.bool), torch.ones(2, 1, 1, dtype=torch.bool)
    assert float(choice_loss(logits, masks, valid, torch.zeros(2, dtype=torch.long)).max()) < 1e-3


@given(seed=SEEDS)
@settings(max_examples=20)
def test_dice_of_a_class_is_that_of_the_batch(seed: int) -> None:
    logits, labels = draw(seed, queries=6)
    masks, _, classes = asked(labels)
    found = class_dice_loss(logits, masks, torch.ones(6, 6, 6, dtype=torch.bool), classes)
    maps = logits.reshape(2, 3, 6, 6), masks.reshape(2, 3, 6, 6).float()
    expected = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1, batch=True, reduction="none")(*maps).flatten()
    torch.testing.assert_close(found, expected[classes - 1], atol=1e-6, rtol=1e-6)


def test_a_class_that_no_image_shows_has_no_dice() -> None:
    logits = torch.zeros(3, 1, 4, 4, requires_grad=True)
    masks = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = True
    losses = class_dice_loss(logits, masks, torch.ones(3, 4, 4, dtype=torch.bool), torch.tensor([5, 5, 7]))
    losses.sum().backward()
    assert losses[0] == losses[1] > 0
    assert losses[2] == 0
    assert logits.grad is not None
    assert logits.grad[:2].any()
    assert not logits.grad[2].any()


@pytest.mark.parametrize("name", ["choice", "batch_dice"])
def test_a_task_whose_answers_stand_alone_is_told_so(name: str) -> None:
    target = Target(masks=torch.ones(1, 1, 4, 4, dtype=torch.bool), valid=torch.ones(1, 4, 4, dtype=torch.bool))
    output = Output(logits=torch.zeros(1, 1, 4, 4), low_res_logits=None, scores=None, aux_losses={}, routing={})
    with pytest.raises(ConfigError, match=f"loss '{name}' does not apply"):
        combine(output, target, {name: 1.0})
