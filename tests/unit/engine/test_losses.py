from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss, FocalLoss
from torch.nn import functional as F

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.engine.losses import (
    Target,
    bce_loss,
    check_names,
    combine,
    cross_entropy_loss,
    dice_loss,
    focal_loss,
    multi_class_dice_loss,
    score_loss,
)
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Output, View

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (3, C, 8, 8), masks or labels, and everything valid."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, channels, 8, 8, generator=rng)
    if channels == 1:
        masks = torch.rand(3, 1, 8, 8, generator=rng) < 0.3
    else:
        masks = torch.randint(0, channels, (3, 8, 8), generator=rng)
    return logits, masks, torch.ones(3, 8, 8, dtype=torch.bool)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_dice_and_focal_are_those_of_monai(seed: int) -> None:
    logits, masks, valid = draw(seed)
    dice = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1, reduction="none")(logits, masks.float())
    torch.testing.assert_close(dice_loss(logits, masks, valid), dice.flatten(), atol=1e-6, rtol=1e-6)
    focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")(logits, masks.float()).mean((1, 2, 3))
    torch.testing.assert_close(focal_loss(logits, masks, valid), focal, atol=1e-6, rtol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_label_map_losses_are_those_of_monai_and_torch(seed: int) -> None:
    logits, labels, valid = draw(seed, channels=4)
    dice = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=1, smooth_dr=1, reduction="none")(logits, labels[:, None])
    torch.testing.assert_close(multi_class_dice_loss(logits, labels, valid), dice.mean((1, 2, 3)), atol=1e-6, rtol=1e-6)
    batch = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=1, smooth_dr=1, batch=True)(logits, labels[:, None])
    over_batch = multi_class_dice_loss(logits, labels, valid, over_batch=True)
    torch.testing.assert_close(over_batch, batch.expand(len(logits)), atol=1e-6, rtol=1e-6)
    entropy = F.cross_entropy(logits, labels, reduction="none").mean((1, 2))
    torch.testing.assert_close(cross_entropy_loss(logits, labels, valid), entropy)


def test_the_dice_of_the_paper_by_hand() -> None:
    # Eq. 10 with one pixel of smoothing: p = 1/2 everywhere on 4 pixels, 2 of them true: 1 - (2*1 + 1) / (2 + 2 + 1).
    logits = torch.zeros(1, 1, 2, 2)
    masks = torch.tensor([[[[True, True], [False, False]]]])
    assert dice_loss(logits, masks, torch.ones(1, 2, 2, dtype=torch.bool)).item() == pytest.approx(1 - 3 / 5)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_padding_counts_nowhere(seed: int) -> None:
    logits, masks, valid = draw(seed)
    labels_logits, labels, _ = draw(seed, channels=3)
    valid[:, 5:] = False
    inside = (slice(None), slice(None), slice(0, 5))
    changed = torch.where(valid[:, None], logits, -logits + 7)
    scores = torch.rand(3)
    for loss in (dice_loss, focal_loss, bce_loss):
        whole = loss(changed, masks, valid)
        torch.testing.assert_close(loss(logits, masks, valid), whole)
        cropped = loss(logits[inside], masks[inside], valid[:, :5])
        torch.testing.assert_close(whole, cropped)
    torch.testing.assert_close(
        score_loss(scores, changed, masks, valid), score_loss(scores, logits[inside], masks[inside], valid[:, :5])
    )
    for loss in (multi_class_dice_loss, cross_entropy_loss):
        torch.testing.assert_close(
            loss(labels_logits, labels, valid), loss(labels_logits[inside], labels[:, :5], valid[:, :5])
        )


def test_an_empty_mask_costs_nothing_when_nothing_is_answered() -> None:
    logits = torch.full((1, 1, 4, 4), -30.0)
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    assert dice_loss(logits, masks, valid).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-logits, masks, valid).item() > 0.9
    assert score_loss(torch.ones(1), logits, masks, valid).item() == 0


def test_the_score_loss_compares_with_the_true_overlap() -> None:
    logits = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    masks = torch.tensor([[[[True, False], [True, False]]]])
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    assert score_loss(torch.tensor([0.75]), logits, masks, valid).item() == pytest.approx((0.75 - 1 / 3) ** 2)


def test_parts_carry_their_weights_and_the_method_adds_its_own() -> None:
    logits, masks, valid = draw(0)
    output = Output(logits=logits, scores=torch.full((3,), 0.5), aux_losses={"balance": torch.tensor(0.25)})
    parts = combine(output, Target(masks=masks, valid=valid), {"dice": 2.0, "focal": 20.0, "score": 1.0})
    assert list(parts) == ["dice", "focal", "score", "aux_balance"]
    torch.testing.assert_close(parts["dice"], 2 * dice_loss(logits, masks, valid).mean())
    torch.testing.assert_close(parts["focal"], 20 * focal_loss(logits, masks, valid).mean())
    assert parts["aux_balance"].item() == 0.25
    without = combine(Output(logits=logits), Target(masks=masks, valid=valid), {"dice": 1.0, "score": 1.0})
    assert list(without) == ["dice"]


def test_a_view_is_judged_on_its_own_grid() -> None:
    logits, masks, valid = draw(4)
    part = logits[:, :, 2:6, 4:8]
    region = torch.tensor([[4.0, 2.0, 8.0, 6.0]]).expand(3, 4)
    weights = torch.tensor([1.0, 0.5, 0.0])
    whole = View(logits=logits, regions=None, weights=torch.ones(3))
    cut = View(logits=part, regions=region, weights=weights)
    target = Target(masks=masks, valid=valid)
    parts = combine(Output(logits=logits, views=(whole, cut)), target, {"dice": 2.0, "bce": 1.0})
    for name, loss, weight in (("dice", dice_loss, 2.0), ("bce", bce_loss, 1.0)):
        expected = loss(logits, masks, valid) + weights * loss(part, masks[:, :, 2:6, 4:8], valid[:, 2:6, 4:8])
        torch.testing.assert_close(parts[name], weight * expected.mean(), msg=name)


def gated(logits: torch.Tensor) -> Output:
    """An answer with a gate's choice."""
    routing = Routing(
        gates=torch.ones(len(logits), 1),
        indices=logits.argmax(-1, keepdim=True),
        logits=logits,
        probabilities=logits.softmax(-1),
        load=torch.zeros(logits.shape[-1]),
    )
    return Output(logits=torch.zeros(len(logits), 1, 4, 4), routing={"gate": routing})


def test_the_owner_loss_is_the_cross_entropy_of_the_gate() -> None:
    choice = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]], requires_grad=True)
    owners = torch.tensor([0, 2])
    target = Target(
        masks=torch.zeros(2, 1, 4, 4, dtype=torch.bool), valid=torch.ones(2, 4, 4, dtype=torch.bool), owners=owners
    )
    parts = combine(gated(choice), target, {"owner": 0.5})
    expected = -(choice.log_softmax(-1)[0, 0] + choice.log_softmax(-1)[1, 2]) / 2
    torch.testing.assert_close(parts["owner"], 0.5 * expected)
    parts["owner"].backward()
    assert choice.grad is not None
    assert choice.grad[0, 0] < 0 < choice.grad[1, 1]


def test_an_owner_loss_without_a_gate_or_of_an_unknown_expert_is_refused() -> None:
    masks, valid = torch.zeros(1, 1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    target = Target(masks=masks, valid=valid, owners=torch.tensor([2]))
    with pytest.raises(ConfigError, match="without a gate"):
        combine(Output(logits=torch.zeros(1, 1, 4, 4)), target, {"owner": 1.0})
    with pytest.raises(ConfigError, match="expert 2 owns it, the gate chooses among 1"):
        combine(gated(torch.zeros(1, 2)), target, {"owner": 1.0})
    with pytest.raises(ConfigError, match="without a gate"):
        combine(gated(torch.zeros(1, 2)), Target(masks=masks, valid=valid), {"owner": 1.0})


def test_half_precision_logits_are_lifted() -> None:
    logits, masks, valid = draw(3)
    half = dice_loss(logits.bfloat16(), masks, valid)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, dice_loss(logits, masks, valid), atol=1e-2, rtol=1e-2)


def test_losses_that_do_not_exist_or_apply_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dice'"):
        check_names({"dise": 1.0})
    with pytest.raises(ConfigError, match="no loss"):
        check_names({})
    logits, labels, valid = draw(0, channels=3)
    with pytest.raises(ConfigError, match="label maps"):
        combine(Output(logits=logits), Target(masks=labels, valid=valid), {"focal": 1.0})
