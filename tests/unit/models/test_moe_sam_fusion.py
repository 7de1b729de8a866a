"""The feature enhancing block against eq. 2-6 written out, and the traps of the public code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.moe_sam.fusion import AddFusion, MoeFusion
from tests.tools.moe_sam import nothing, small_images, small_moe_sam, small_plan

WIDTH = 16


def block(seed: int = 0, **keys: Any) -> MoeFusion:
    torch.manual_seed(seed)
    values: dict[str, Any] = {
        "encoder_width": WIDTH,
        "width": 8,
        "num_experts": 3,
        "num_active": 2,
        "hidden": 12,
        "group": "location",
        "residual": True,
        "noise": True,
        "norm": False,
        "attention": "fused",
        "num_heads": 2,
        "attention_residual": True,
    }
    return MoeFusion(**{**values, **keys}).eval()


def features(images: int = 2, layers: int = 5, places: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(images, layers, places, WIDTH, generator=torch.Generator().manual_seed(seed))


def written_out(fusion: MoeFusion, group_NV: Tensor, active: int, gate_factor: float) -> Tensor:
    """Eq. 2-6 for one group of features, expert by expert, without the residual."""
    weights = fusion.experts
    answer = torch.zeros_like(group_NV)
    for expert in range(weights.num_experts):
        scores = group_NV @ fusion.router.gate.weight[expert]
        values, chosen = scores.topk(active)
        gates = values.softmax(0) * gate_factor
        hidden = torch.relu(group_NV[chosen] @ weights.weight_in[expert] + weights.bias_in[expert])
        refined = hidden @ weights.weight_out[expert] + weights.bias_out[expert]
        answer = answer.index_add(0, chosen, gates[:, None] * refined)
    return answer


@pytest.mark.parametrize("residual", [True, False])
@torch.no_grad()
def test_location_routing_is_the_papers(residual: bool) -> None:
    fusion, x = block(residual=residual), features()
    found, routing = fusion.route(x)
    assert routing.indices.shape == (2 * 6, 3, 2)
    for image in range(2):
        for place in range(6):
            group = x[image, :, place]
            expected = written_out(fusion, group, 2, 1.0) + (group if residual else 0)
            torch.testing.assert_close(found[image, :, place], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_image_routing_chooses_among_an_images_tokens() -> None:
    fusion, x = block(group="image"), features()
    found, routing = fusion.route(x)
    active = 2 * 6
    assert routing.indices.shape == (2, 3, active)
    for image in range(2):
        group = x[image].flatten(0, 1)
        expected = written_out(fusion, group, active, float(active)) + group
        torch.testing.assert_close(found[image].flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_image_routing_names_layer_and_location() -> None:
    fusion, x = block(group="image", num_experts=1), features(images=1)
    fusion.router.gate.weight.zero_()
    fusion.router.gate.weight[0, 0] = 1
    x[..., 0] = 0
    x[0, 3, :, 0] = 1  # layer 3 everywhere, and place 4 of layer 1
    x[0, 1, 4, 0] = 2
    chosen = set(fusion.route(x)[1].indices.flatten().tolist())
    assert {3 * 6 + place for place in range(6)} | {1 * 6 + 4} <= chosen


@pytest.mark.parametrize("group", ["location", "image"])
@torch.no_grad()
def test_without_residual_an_unchosen_layer_is_nothing_and_with_it_itself(group: Any) -> None:
    x = features(layers=6)
    bare, whole = block(group=group, residual=False), block(group=group)
    without, routing = bare.route(x)
    unchosen = (without == 0).all(dim=-1)
    assert bool(unchosen.any()), "three experts that take a third each must leave something"
    assert torch.equal(whole.route(x)[0][unchosen], x[unchosen])
    assert int(routing.load.sum()) == routing.indices.numel()


@torch.no_grad()
def test_gates_are_about_one_over_k_and_experts_no_noop() -> None:
    """The public code's gates of 1/9408 changed features by 3e-4; k of the layers gives 1/k."""
    x = features(layers=12, places=49)
    fusion = block(num_active=6, num_experts=4)
    found, routing = fusion.route(x)
    assert 0.1 < float(routing.gates.mean()) < 0.25
    assert float((found - x).norm() / x.norm()) > 0.05
    by_image, _ = block(num_active=6, num_experts=4, group="image").route(x)
    assert float((by_image - x).norm() / x.norm()) > 0.05


@settings(max_examples=25, deadline=None)
@given(
    group=st.sampled_from(["location", "image"]),
    images=st.integers(1, 4),
    layers=st.integers(1, 6),
    places=st.integers(1, 5),
    experts=st.integers(1, 4),
    data=st.data(),
)
@torch.no_grad()
def test_routing_of_any_shape(group: Any, images: int, layers: int, places: int, experts: int, data: Any) -> None:
    """k follows the input at hand, every expert takes as many, and an image never hears of another."""
    active = data.draw(st.integers(1, layers))
    fusion = block(group=group, num_experts=experts, num_active=active)
    x = features(images, layers, places)
    found, routing = fusion.route(x)
    groups, items = (images * places, layers) if group == "location" else (images, layers * places)
    k = active if group == "location" else active * places
    assert routing.indices.shape == (groups, experts, k)
    assert int(routing.indices.min()) >= 0
    assert int(routing.indices.max()) < items
    ordered = routing.indices.sort(dim=-1).values
    assert bool((ordered[..., 1:] > ordered[..., :-1]).all()), "an expert took an item twice"
    torch.testing.assert_close(routing.gates.sum(-1), torch.ones(groups, experts))
    for image in range(images):
        alone, _ = fusion.route(x[image : image + 1])
        assert float((alone[0] - found[image]).abs().max()) <= 1e-5
    shuffled = torch.randperm(places, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(fusion.route(x[:, :, shuffled])[0], found[:, :, shuffled], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_noise_only_in_training_and_only_when_asked() -> None:
    x = features()
    noisy, silent = block(), block(noise=False)
    assert torch.equal(noisy.route(x)[0], noisy.route(x)[0])
    noisy.train()
    assert not torch.equal(noisy.route(x)[0], noisy.route(x)[0])
    silent.train()
    assert torch.equal(silent.route(x)[0], silent.route(x)[0])


@torch.no_grad()
def test_attention_over_all_layers_sees_each_layer_by_itself() -> None:
    """Averaging first cannot tell which layer a feature came from; attention over all layers can."""
    x = features(layers=4).unflatten(2, (2, 3))
    for attention, changes in (("fused", False), ("all_layers", True)):
        fusion = block(attention=attention, num_active=4, num_experts=1)
        torch.nn.init.ones_(fusion.neck[-1].weight)
        fusion.experts.weight_out.zero_()
        other = x.clone()
        other[:, 0], other[:, 1] = 2 * x[:, 0], x[:, 1] - x[:, 0]  # the same mean
        moved = float((fusion(x).auxiliary - fusion(other).auxiliary).abs().max())
        assert (moved > 1e-3) == changes


@pytest.mark.parametrize("attention", ["fused", "all_layers"])
@torch.no_grad()
def test_attention_picture_is_the_attention(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fusion, x = block(attention=attention), features().unflatten(2, (2, 3))
    fused = fusion(x)
    picture = fusion.attention_picture(fused)
    assert picture.shape == (2, 1, 2, 3)
    torch.testing.assert_close(picture.sum(dim=(1, 2, 3)), torch.ones(2))
    assert float(picture.std()) > 0
    monkeypatch.setattr("medmoe_cli.core.models.moe_sam.fusion._QUERY_CHUNK", 4)
    torch.testing.assert_close(fusion.attention_picture(fused), picture)


@torch.no_grad()
def test_added_layers_are_added() -> None:
    torch.manual_seed(0)
    fusion = AddFusion(encoder_width=WIDTH, width=8)
    torch.nn.init.ones_(fusion.neck[-1].weight)
    x = features().unflatten(2, (2, 3))
    assert float(fusion(x).auxiliary.std()) > 0.1
    torch.testing.assert_close(fusion(x).auxiliary, fusion(x.flip(1)).auxiliary)
    expected = fusion.neck(x.sum(1).permute(0, 3, 1, 2))
    torch.testing.assert_close(fusion(x).auxiliary, expected)


def test_half_of_the_layers_rounded_up_unless_told_otherwise() -> None:
    for depth, expected in ((1, 1), (3, 2), (4, 2)):
        assert small_moe_sam(depth=depth).get_submodule("feb").num_active == expected
    assert small_moe_sam(num_active=3).get_submodule("feb").num_active == 3
    with pytest.raises(ConfigError, match="cannot choose 4 of 3 layers"):
        small_moe_sam(num_active=4)


def test_number_of_experts_is_the_plans_unless_told_otherwise() -> None:
    for plan_experts, key, expected in ((5, None, 5), (5, 2, 2)):
        model = small_moe_sam(plan=small_plan(num_experts=plan_experts), num_experts=key)
        routing = model.decode(model.encode(small_images(1)), nothing(1)).routing["feb"]
        assert routing.load.shape == (expected,)


def test_choices_among_a_whole_image_are_recorded_by_layer() -> None:
    fusion = MoeFusion(
        encoder_width=8, width=4, num_experts=2, num_active=2, hidden=8, group="image", residual=True, noise=False,
        norm=False, attention="fused", num_heads=2, attention_residual=True,
    )  # fmt: skip
    layers = torch.randn(2, 3, 4, 4, 8)
    routing = fusion(layers).routing
    assert routing is not None
    assert routing.num_items == 3
    assert set(routing.indices.unique().tolist()) <= {0, 1, 2}
    _, raw = fusion.route(layers.flatten(2, 3))
    assert torch.equal(routing.indices, raw.indices // 16)
