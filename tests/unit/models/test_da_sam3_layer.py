"""The dual-adaptive layer: experts that can learn from the first step, and own nothing of what is frozen."""

from __future__ import annotations

import pytest
import torch

from medmoe_cli.core.engine import optim
from medmoe_cli.core.models.da_sam3.layer import DualAdaptiveLayer
from medmoe_cli.core.models.da_sam3.model import DaSam3
from medmoe_cli.core.nn.moe import Experts, LowRankExperts
from tests.tools.da_sam3 import ask, small_da_sam3, small_images


def layers_of(model: DaSam3) -> list[DualAdaptiveLayer]:
    return [layer for layer in model.sam3.detr_encoder.layers if isinstance(layer, DualAdaptiveLayer)]


@pytest.mark.parametrize("experts", ["low-rank", "full"])
def test_after_one_step_every_expert_that_was_chosen_has_changed(experts: str) -> None:
    model = small_da_sam3(experts=experts, stem="patch")
    stage = model.stages()[0]
    parameters = optim.apply_stage(model, stage)
    before = [{name: one.clone() for name, one in layer.experts.named_parameters()} for layer in layers_of(model)]
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=1e-3, weight_decay=0)
    features = model.encode(small_images())
    output = model.decode(features.take(torch.tensor([0, 1, 1])), ask(0, 1, 2))
    target = torch.zeros_like(output.logits)
    target[:, :, 8:20, 4:24] = 1
    torch.nn.functional.binary_cross_entropy_with_logits(output.logits, target).backward()
    optimizer.step()
    assert len(before) == 3
    for layer, old, routing in zip(layers_of(model), before, output.routing.values(), strict=True):
        new = dict(layer.experts.named_parameters())
        for expert, load in enumerate(routing.load.tolist()):
            moved = any(not torch.equal(new[name][expert], old[name][expert]) for name in old)
            assert moved == (load > 0)


def test_experts_own_nothing_of_the_base() -> None:
    model = small_da_sam3()
    layer = layers_of(model)[0]
    assert isinstance(layer.experts, LowRankExperts)
    base = {id(one) for one in layer.mlp.parameters()}
    assert base.isdisjoint(id(one) for one in layer.experts.parameters())
    assert sum(one.numel() for one in layer.experts.parameters()) == 4 * 2 * 4 * (32 + 64)


def test_full_experts_begin_as_copies_and_take_the_bases_place() -> None:
    model = small_da_sam3(experts="full", stem="patch")
    layer = layers_of(model)[0]
    assert isinstance(layer.experts, Experts)
    assert not hasattr(layer, "mlp")
    for tensor in layer.experts.parameters():
        assert torch.equal(tensor[0], tensor[-1])


@pytest.mark.parametrize(
    ("keys", "routed", "places"),
    [
        ({}, True, 3),
        ({"router": "token"}, True, 3),
        ({"router": "random"}, True, 3),
        ({"experts": "full"}, True, 3),
        ({"experts": "lora"}, False, 3),
        ({"experts": "none"}, False, 0),
        ({"moe_layers": [3]}, True, 1),
        ({"top_k": 4}, True, 3),
        ({"num_experts": 6, "top_k": 3}, True, 3),
    ],
)
def test_ablations(keys: dict[str, object], routed: bool, places: int) -> None:
    model = small_da_sam3(**keys)
    output = model.decode(model.encode(small_images()), ask(0, 1))
    assert len(layers_of(model)) == places
    assert len(output.routing) == (places if routed else 0)
    for routing in output.routing.values():
        torch.testing.assert_close(routing.gates.sum(-1), torch.ones(len(routing.gates)))
        assert routing.indices.shape == (2 * 16, keys.get("top_k", 2))


def test_half_precision_stays_near() -> None:
    model = small_da_sam3(learned=True).eval()
    features = model.encode(small_images())
    with torch.no_grad():
        exact = model.decode(features, ask(0, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model.decode(features, ask(0, 1))
    assert torch.isfinite(rough.logits).all()
    assert float((rough.logits - exact.logits).abs().mean()) < 0.1 * float(exact.logits.std())
