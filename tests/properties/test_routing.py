"""What holds for any routing: nothing is lost, nothing depends on its neighbours, every gradient is defined."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medmoe_cli.core.nn.moe import (
    Experts,
    LowRankExperts,
    NoisyRouter,
    Routing,
    balance_loss,
    choose_experts,
    choose_items,
    choose_one,
    cv_squared,
    entropy,
    importance,
    select_above,
    settled_load,
)


@dataclass(frozen=True)
class Setting:
    num_items: int
    num_experts: int
    num_active: int
    seed: int

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)


@st.composite
def settings_of_routing(draw: st.DrawFn) -> Setting:
    num_experts = draw(st.integers(1, 6))
    return Setting(
        num_items=draw(st.integers(1, 12)),
        num_experts=num_experts,
        num_active=draw(st.integers(1, num_experts)),
        seed=draw(st.integers(0, 10_000)),
    )


many = settings(max_examples=100, deadline=None)
WIDTH, HIDDEN = 5, 7


def experts(num_experts: int, seed: int = 0) -> Experts:
    torch.manual_seed(seed)
    return Experts(num_experts, width=WIDTH, hidden=HIDDEN).double()


def dense(module: Experts, items_ND: Tensor) -> Tensor:
    """Every expert on every item, (N, E, D), written out."""
    hidden = module.activation(torch.einsum("nd,edh->neh", items_ND, module.weight_in) + module.bias_in)
    return torch.einsum("neh,ehd->ned", hidden, module.weight_out) + module.bias_out


def dense_gates(routing: Routing, num_experts: int) -> Tensor:
    return (F.one_hot(routing.indices, num_experts) * routing.gates.unsqueeze(-1)).sum(1)


@given(case=settings_of_routing(), straight_through=st.booleans())
@many
def test_gates_sum_to_one_and_no_item_is_lost_or_doubled(case: Setting, straight_through: bool) -> None:
    logits = case.random(case.num_items, case.num_experts)
    routing = choose_experts(logits, num_active=case.num_active, straight_through=straight_through)
    torch.testing.assert_close(routing.gates.sum(1), torch.ones(case.num_items).double())
    assert all(len(set(row)) == case.num_active for row in routing.indices.tolist())
    assert routing.load.sum() == case.num_items * case.num_active
    torch.testing.assert_close(importance(routing).sum(), torch.tensor(float(case.num_items)).double())
    chosen = logits.gather(1, routing.indices)
    unchosen = logits.scatter(1, routing.indices, -torch.inf).amax(1)
    assert (chosen.amin(1) >= unchosen).all()


@given(case=settings_of_routing())
@many
def test_experts_equal_the_sum_written_out(case: Setting) -> None:
    items = case.random(case.num_items, WIDTH)
    module = experts(case.num_experts, case.seed)
    routing = choose_experts(case.random(case.num_items, case.num_experts), num_active=case.num_active)
    expected = torch.einsum("ne,ned->nd", dense_gates(routing, case.num_experts), dense(module, items))
    torch.testing.assert_close(module(items, routing), expected)


@given(case=settings_of_routing())
@many
def test_all_experts_active_equals_the_dense_mixture(case: Setting) -> None:
    items, logits = case.random(case.num_items, WIDTH), case.random(case.num_items, case.num_experts)
    module = experts(case.num_experts, case.seed)
    routing = choose_experts(logits, num_active=case.num_experts)
    expected = torch.einsum("ne,ned->nd", logits.softmax(1), dense(module, items))
    torch.testing.assert_close(module(items, routing), expected)


@given(case=settings_of_routing())
@many
def test_permuted_items_give_permuted_answers_and_batches_change_nothing(case: Setting) -> None:
    items, logits = case.random(case.num_items, WIDTH), case.random(case.num_items, case.num_experts)
    module = experts(case.num_experts, case.seed)
    answers = module(items, choose_experts(logits, num_active=case.num_active))
    order = torch.randperm(case.num_items, generator=torch.Generator().manual_seed(case.seed))
    permuted = module(items[order], choose_experts(logits[order], num_active=case.num_active))
    torch.testing.assert_close(permuted, answers[order])
    alone = module(items[:1], choose_experts(logits[:1], num_active=case.num_active))
    torch.testing.assert_close(alone, answers[:1])


@given(case=settings_of_routing())
@many
def test_gradients_are_finite_and_zero_for_experts_nobody_chose(case: Setting) -> None:
    items = case.random(case.num_items, WIDTH).requires_grad_()
    logits = case.random(case.num_items, case.num_experts).requires_grad_()
    module = experts(case.num_experts, case.seed)
    routing = choose_experts(logits, num_active=case.num_active)
    (module(items, routing).square().sum() + balance_loss(routing) + entropy(routing)).backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        moved = parameter.grad.flatten(1).abs().amax(1) > 0
        assert moved.tolist() == (routing.load > 0).tolist()
    assert items.grad is not None
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@given(case=settings_of_routing(), groups=st.integers(1, 4), num_active=st.integers(1, 12))
@many
def test_experts_choose_their_best_items_in_every_group(case: Setting, groups: int, num_active: int) -> None:
    num_active = min(num_active, case.num_items)
    logits = case.random(groups, case.num_items, case.num_experts)
    items = case.random(groups, case.num_items, WIDTH)
    module = experts(case.num_experts, case.seed)
    routing = choose_items(logits, num_active=num_active)
    torch.testing.assert_close(routing.gates.sum(-1), torch.ones(groups, case.num_experts).double())
    assert routing.load.sum() == groups * case.num_experts * num_active
    expected = torch.zeros_like(items)
    for group in range(groups):
        for expert in range(case.num_experts):
            best = logits[group, :, expert].topk(num_active).indices
            assert set(best.tolist()) == set(routing.indices[group, expert].tolist())
            gates = logits[group, best, expert].softmax(0)
            expected[group, best] += gates[:, None] * dense(module, items[group, best])[:, expert]
    torch.testing.assert_close(module.forward_chosen(items, routing), expected)
    first = choose_items(logits[:1], num_active=num_active)
    torch.testing.assert_close(module.forward_chosen(items[:1], first), expected[:1])


@given(case=settings_of_routing(), groups=st.integers(1, 3))
@many
def test_permuting_a_groups_items_permutes_what_experts_choose(case: Setting, groups: int) -> None:
    logits = case.random(groups, case.num_items, case.num_experts)
    items = case.random(groups, case.num_items, WIDTH)
    module = experts(case.num_experts, case.seed)
    order = torch.randperm(case.num_items, generator=torch.Generator().manual_seed(case.seed))
    num_active = -(-case.num_items // 2)
    answers = module.forward_chosen(items, choose_items(logits, num_active=num_active))
    permuted = module.forward_chosen(items[:, order], choose_items(logits[:, order], num_active=num_active))
    torch.testing.assert_close(permuted, answers[:, order])


@given(case=settings_of_routing(), threshold=st.floats(0, 0.99))
@many
def test_the_selector_opens_above_its_threshold_only(case: Setting, threshold: float) -> None:
    logits = 3 * case.random(case.num_items, case.num_experts + 1)
    routing = select_above(logits, threshold=threshold)
    shares = logits.softmax(1)[:, 1:].amax(1)
    for row, share in enumerate(shares.tolist()):
        opened = share > threshold
        expected = [1 - share, share] if opened else [1.0, 0.0]
        assert routing.gates[row].tolist() == pytest.approx(expected)
        assert routing.indices[row].tolist() == [0, int(logits[row, 1:].argmax()) + 1]
    assert routing.load[0] == case.num_items
    assert routing.load[1:].sum() == (shares > threshold).sum()


@given(case=settings_of_routing())
@many
def test_low_rank_experts_equal_their_full_networks(case: Setting) -> None:
    torch.manual_seed(case.seed)
    first, second = nn.Linear(WIDTH, HIDDEN).double(), nn.Linear(HIDDEN, WIDTH).double()
    module = LowRankExperts(case.num_experts, width=WIDTH, hidden=HIDDEN, rank=2).double()
    items = case.random(case.num_items, WIDTH)
    routing = choose_experts(case.random(case.num_items, case.num_experts), num_active=case.num_active)

    def run() -> Tensor:
        return module(items, routing, first=first, activation=F.relu, second=second)

    torch.testing.assert_close(run(), second(F.relu(first(items))))  # B = 0: the base network
    nn.init.normal_(module.b_in)
    nn.init.normal_(module.b_out)
    expected = torch.zeros_like(items)
    for row, item in enumerate(items):
        for gate, expert in zip(routing.gates[row], routing.indices[row], strict=True):
            hidden = F.relu(first(item) + item @ module.a_in[expert] @ module.b_in[expert])
            expected[row] += gate * (second(hidden) + hidden @ module.a_out[expert] @ module.b_out[expert])
    torch.testing.assert_close(run(), expected)


def test_low_rank_experts_can_learn_from_the_first_step() -> None:
    torch.manual_seed(0)
    module = LowRankExperts(3, width=WIDTH, hidden=HIDDEN, rank=2)
    first, second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
    routing = choose_experts(torch.tensor([[1.0, 0.5, -1.0]]).repeat(20, 1), num_active=2)
    module(torch.randn(20, WIDTH), routing, first=first, activation=F.relu, second=second).square().sum().backward()
    for factor in (module.b_in, module.b_out):
        assert factor.grad is not None
        assert (factor.grad.flatten(1).abs().amax(1) > 0).tolist() == [True, True, False]
    assert not torch.equal(module.a_in[0], module.a_in[1])


@pytest.mark.parametrize("num_active", [1, 2])
def test_the_router_learns_whatever_k(num_active: int) -> None:
    torch.manual_seed(0)
    router, module, items = NoisyRouter(WIDTH, 4), Experts(4, width=WIDTH, hidden=HIDDEN), torch.randn(30, WIDTH)
    logits, scores = router(items)
    module(items, choose_experts(logits, num_active=num_active, scores_NE=scores)).square().sum().backward()
    for name, parameter in router.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_noise_is_drawn_while_training_only_and_from_the_generator() -> None:
    router, items = NoisyRouter(WIDTH, 4), torch.randn(6, WIDTH)
    draws = [router(items, generator=torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    logits, noisy = router(items)
    assert not torch.equal(logits, noisy)
    router.eval()
    logits, scores = router(items)
    assert torch.equal(logits, scores)
    assert torch.equal(router(items[2:3])[0], logits[2:3]) or torch.allclose(router(items[2:3])[0], logits[2:3])


def test_the_noise_has_the_scale_of_equation_2() -> None:
    router = NoisyRouter(WIDTH, 2)
    assert router.noise is not None
    nn.init.normal_(router.noise.weight)
    items = torch.randn(1, WIDTH).expand(20_000, -1)
    logits, scores = router(items, generator=torch.Generator().manual_seed(0))
    expected = F.softplus(router.noise(items[0])) + 1e-2
    torch.testing.assert_close((scores - logits).std(0), expected, rtol=0.03, atol=0)


def test_ties_go_to_the_lowest_index_in_every_batch() -> None:
    routing = choose_experts(torch.zeros(50, 6), num_active=2)
    assert (routing.indices == torch.tensor([0, 1])).all()
    assert (choose_items(torch.zeros(3, 8, 2), num_active=3).indices == torch.tensor([0, 1, 2])).all()


@given(case=settings_of_routing())
@many
def test_balance_is_least_at_uniform(case: Setting) -> None:
    amounts = case.random(case.num_experts).abs() + 0.01
    uneven = cv_squared(amounts)
    assert uneven >= 0
    assert cv_squared(torch.full((case.num_experts,), 3.7)) == pytest.approx(0, abs=1e-9)
    numpy = amounts.numpy()
    assert float(uneven) == pytest.approx(numpy.var() / numpy.mean() ** 2, abs=1e-6)


def test_balance_of_even_and_collapsed_routing() -> None:
    even = choose_experts(5 * torch.eye(4).repeat(3, 1), num_active=1)
    collapsed = choose_experts(torch.tensor([[9.0, 0, 0, 0]]).repeat(12, 1), num_active=1)
    assert float(balance_loss(even)) == pytest.approx(0, abs=1e-9)
    assert float(balance_loss(collapsed)) > 5
    assert importance(even).shape == (4,)
    assert float(entropy(collapsed)) < 0.01
    assert float(entropy(choose_experts(torch.zeros(5, 4), num_active=1))) == pytest.approx(torch.tensor(4.0).log())


def test_the_balance_loss_moves_the_router_towards_balance() -> None:
    logits = torch.tensor([[3.0, 0, 0], [2.0, 0, 0], [4.0, 0, 1]], requires_grad=True)
    balance_loss(choose_experts(logits, num_active=1)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()


def test_shares_that_only_noise_makes_equal_are_not_balance() -> None:
    """The scores spread the items evenly; without noise the first expert would get them all."""
    logits = torch.tensor([[0.1, 0.0, 0.0, 0.0]]).repeat(4, 1).requires_grad_()
    noisy = choose_experts(logits, num_active=1, scores_NE=logits + 5 * torch.eye(4))
    assert noisy.load.tolist() == [1, 1, 1, 1]
    assert settled_load(noisy).tolist() == [4, 0, 0, 0]
    loss = balance_loss(noisy)
    assert float(loss.detach()) > 2
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_entropy_has_a_finite_gradient_where_a_probability_underflows() -> None:
    logits = torch.tensor([[500.0, -500.0]], requires_grad=True)
    entropy(choose_experts(logits, num_active=1)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_one_token_is_chosen_with_a_gradient_for_all() -> None:
    scores = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0]], requires_grad=True)
    weights = choose_one(scores)
    assert weights.tolist() == [[0, 1, 0], [1, 0, 0]]
    (weights * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert scores.grad is not None
    assert (scores.grad != 0).all()


@pytest.mark.parametrize("num_active", [0, 5])
def test_an_impossible_number_of_active_experts_is_refused(num_active: int) -> None:
    with pytest.raises(ValueError, match="num_active"):
        choose_experts(torch.zeros(3, 4), num_active=num_active)
    with pytest.raises(ValueError, match="num_active"):
        choose_items(torch.zeros(3, 4, 2), num_active=num_active)
    with pytest.raises(ValueError, match="specific"):
        select_above(torch.zeros(3, 1), threshold=0.5)
