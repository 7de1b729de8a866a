"""MoTE: noise only in training, routing as configured, tokens that do not collapse."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.mask_decoder import MLP
from torch.nn import functional as F

from medmoe_cli.core.models.segmote.decoder import _attention_masks, _block
from medmoe_cli.core.models.segmote.mote import (
    Mote,
    MoteLayer,
    SharedTailExperts,
    TokenHeads,
    balance_losses,
    choose_token,
)
from medmoe_cli.core.nn.moe import choose_experts
from tests.tools.segmote import small_segmote


def _layer(*, top_k: int = 1, shared_tail: bool = False) -> MoteLayer:
    torch.manual_seed(0)
    return MoteLayer(width=16, num_experts=4, top_k=top_k, expert_width=8, shared_tail=shared_tail)


@pytest.mark.parametrize("shared_tail", [False, True])
def test_noise_is_drawn_in_training_alone(shared_tail: bool) -> None:
    layer = _layer(shared_tail=shared_tail)
    tokens = torch.randn(64, 4, 16)
    layer.eval()
    assert torch.equal(layer(tokens)[0], layer(tokens)[0])
    layer.train()
    first, second = layer(tokens)[1], layer(tokens)[1]
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.indices, second.indices)


def test_a_token_passes_its_own_expert_and_keeps_its_residual() -> None:
    layer = _layer().eval()
    tokens = torch.randn(3, 4, 16)
    with torch.no_grad():
        out, routing, confidence = layer(tokens)
        experts = layer.experts
        for index, token in enumerate(tokens.reshape(-1, 16)):
            chosen = int(routing.indices[index, 0])
            assert chosen == int((token @ layer.router.gate.weight.t()).argmax())
            hidden = F.gelu(token @ experts.weight_in[chosen] + experts.bias_in[chosen])
            expected = token + hidden @ experts.weight_out[chosen] + experts.bias_out[chosen]
            torch.testing.assert_close(out.reshape(-1, 16)[index], expected)
    torch.testing.assert_close(confidence, routing.logits.amax(dim=1).reshape(3, 4))


def test_shared_tail_experts_differ_by_their_way_down() -> None:
    torch.manual_seed(1)
    experts = SharedTailExperts(4, width=16, hidden=8).eval()
    items = torch.randn(1, 16).expand(4, 16)
    routing = choose_experts(10 * torch.eye(4), num_active=1)
    answers = experts(items, routing)
    for index in range(4):
        down = F.gelu(items[index] @ experts.weight_in[index] + experts.bias_in[index])
        torch.testing.assert_close(answers[index], experts.tail(down))
    assert (answers[0] - answers[1]).abs().max() > 1e-3


@pytest.mark.parametrize("shared_tail", [False, True])
def test_all_experts_active_is_the_dense_mixture(shared_tail: bool) -> None:
    layer = _layer(top_k=4, shared_tail=shared_tail).eval()
    tokens = torch.randn(2, 3, 16)
    with torch.no_grad():
        out, routing, _ = layer(tokens)
        flat = tokens.reshape(-1, 16)
        dense = torch.zeros_like(flat)
        for expert in range(4):
            only = choose_experts(F.one_hot(torch.full((6,), expert), 4) * 100.0, num_active=1)
            dense += routing.probabilities[:, expert, None] * layer.experts(flat, only)
    torch.testing.assert_close(out, tokens + dense.view_as(tokens))


def test_heads_are_sams_hypernetworks_side_by_side() -> None:
    torch.manual_seed(2)
    sam = MLP(16, 16, 2, 3)
    heads = TokenHeads(num_tokens=3, width=16)
    heads.copy_from(sam)
    tokens = torch.randn(5, 3, 16)
    torch.testing.assert_close(heads(tokens), sam(tokens))
    with torch.no_grad():
        heads.weights[0][1] += 1
    changed = (heads(tokens) - sam(tokens)).abs().amax(dim=(0, 2))
    assert changed[1] > 0
    assert changed[[0, 2]].max() < 1e-6


def test_the_chosen_token_is_the_most_confident_one_and_all_can_learn() -> None:
    confidence = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]], requires_grad=True)
    weights, routing = choose_token(confidence)
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert routing.indices.tolist() == [[1], [0]]
    assert routing.load.tolist() == [1.0, 1.0, 0.0]
    # Were another token better for the loss, its confidence would rise: here token 2 of the first query.
    (gradient,) = torch.autograd.grad((weights * torch.tensor([[0.0, 0.0, -1.0]])).sum(), confidence)
    assert gradient[0, 2] < 0
    assert gradient[0, 1] > 0


def test_token_balance_takes_images_from_the_token_that_has_all() -> None:
    confidence = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 8, requires_grad=True)
    for _ in range(200):
        varied = confidence + 0.1 * torch.randn(confidence.shape, generator=torch.Generator().manual_seed(0))
        _, choice = choose_token(varied)
        losses = balance_losses({}, choice, expert_weight=0, token_weight=1)
        (gradient,) = torch.autograd.grad(losses["token_balance"], confidence)
        confidence = (confidence - 0.1 * gradient).detach().requires_grad_(True)
    _, routing = choose_token(varied.detach())
    assert int((routing.load > 0).sum()) >= 3


def test_token_balance_counts_the_choices_that_evaluation_makes() -> None:
    settled = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 8)
    _, choice = choose_token(settled, noisy_QN=4 * torch.eye(4).repeat(2, 1))
    assert choice.load.tolist() == [2, 2, 2, 2]  # under noise each as often
    losses = balance_losses({}, choice, expert_weight=0, token_weight=1)
    assert float(losses["token_balance"]) == pytest.approx(3)


def test_every_layers_balance_counts_alike() -> None:
    even = choose_experts(10 * F.one_hot(torch.arange(8) % 4, 4).float(), num_active=1)
    collapsed = choose_experts(10 * F.one_hot(torch.zeros(8, dtype=torch.long), 4).float(), num_active=1)
    _, choice = choose_token(torch.eye(4))
    first, last, both = (
        balance_losses(dict(zip(("layer1", "layer2"), layers, strict=True)), choice, expert_weight=0.01, token_weight=0)
        for layers in ((collapsed, even), (even, collapsed), (collapsed, collapsed))
    )
    # All on one of four experts: CV^2 is 3, for importance (nearly) and for load.
    assert float(last["expert_balance"]) == pytest.approx(0.01 * 6, rel=0.01)
    torch.testing.assert_close(first["expert_balance"], last["expert_balance"])
    torch.testing.assert_close(both["expert_balance"], 2 * last["expert_balance"])
    assert set(first) == {"expert_balance"}


def test_mote_stands_in_for_the_mlp_of_expert_tokens_only() -> None:
    model = small_segmote(text="none").eval()
    block, layer = model.mask_decoder.transformer.layers[1], model.mote.layers[1]
    experts = slice(5, 9)
    tokens, image = torch.randn(2, 12, 32), torch.randn(2, 16, 32)
    masks = _attention_masks(torch.ones(2, 3, dtype=torch.bool), num_sam=5, num_experts=4, isolate=False)

    def after() -> torch.Tensor:
        with torch.no_grad():
            return _block(block, layer, tokens, image, tokens, image[:1], experts=experts, masks=masks)[0]

    before = after()
    with torch.no_grad():
        block.mlp.lin2.bias.add_(torch.randn(32))
    changed = (after() - before).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [True] * 5 + [False] * 4 + [True] * 3
    before = after()
    with torch.no_grad():
        layer.experts.bias_out.add_(torch.randn(4, 32))
    changed = (after() - before).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [False] * 5 + [True] * 4 + [False] * 3


def test_starting_from_sam_keeps_tokens_apart() -> None:
    torch.manual_seed(3)
    mote = Mote(
        width=32,
        num_layers=2,
        num_tokens=4,
        num_experts=4,
        top_k=1,
        expert_width=8,
        shared_tail=False,
        encoder_width=24,
    )
    token, head = torch.randn(32), MLP(32, 32, 4, 3)
    mote.start_from_sam(token, head)
    assert mote.tokens.std(dim=0).min() > 0
    torch.testing.assert_close(mote.tokens.mean(dim=0), token, atol=0.5, rtol=0)
    upscaled = torch.randn(2, 4, 16, 16)
    image = mote.high_resolution.image(torch.randn(2, 32, 4, 4), torch.randn(2, 24, 4, 4))
    assert torch.equal(mote.mask_features(upscaled, image, None), upscaled)
