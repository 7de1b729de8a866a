"""Adapters: computed as described, loadable beside SAM's names, and without cost where there is none."""

from __future__ import annotations

import pytest
import torch

from medmoe_cli.core.nn.sam2d import AdapterSpec, SamEncoder, SamSize
from medmoe_cli.core.nn.sam2d.adapters import AdapterKind, build_adapter

SMALL = SamSize(name="small", width=24, depth=2, num_heads=3, global_blocks=(1,), neck_width=8)
KINDS: list[AdapterKind] = ["attention+mlp", "attention", "lora", "sam-med2d"]


def grid(height: int = 5, width: int = 5) -> torch.Tensor:
    return torch.randn(2, height, width, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_sams_names_stay_and_adapters_come_beside(kind: AdapterKind) -> None:
    plain = SamEncoder(SMALL, image_size=80)
    adapted = SamEncoder(SMALL, image_size=80, adapter=AdapterSpec(kind=kind))
    beside = {name for name in adapted.state_dict() if ".adapter." in name}
    assert set(adapted.state_dict()) - beside == set(plain.state_dict())
    assert beside
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert set(missing) == beside
    assert unexpected == []


def test_an_encoder_draws_the_same_weights_with_and_without_adapters() -> None:
    torch.manual_seed(3)
    plain = SamEncoder(SMALL, image_size=80).state_dict()
    torch.manual_seed(3)
    adapted = SamEncoder(SMALL, image_size=80, adapter=AdapterSpec(kind="lora")).state_dict()
    assert all(torch.equal(adapted[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 6), (0.5, 12), (0.01, 1)])
def test_inner_width_is_the_ratio(ratio: float, expected: int) -> None:
    names = dict(build_adapter(AdapterSpec(kind="attention", ratio=ratio), 24).named_parameters())
    assert names["attention.down.weight"].shape == (expected, 24)
    assert "mlp.down.weight" not in names


@torch.no_grad()
def test_bottlenecks_are_eq_1_and_its_sibling() -> None:
    adapter = build_adapter(AdapterSpec(kind="attention+mlp", scale=0.3), 24)
    for parameter in adapter.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(2))
    weights, x = dict(adapter.named_parameters()), grid()
    for place in ("attention", "mlp"):
        inner = torch.nn.functional.gelu(x @ weights[f"{place}.down.weight"].T + weights[f"{place}.down.bias"])
        delta = 0.3 * (inner @ weights[f"{place}.up.weight"].T + weights[f"{place}.up.bias"])
        found = adapter.attended(x) - x if place == "attention" else adapter.beside_mlp(x)
        torch.testing.assert_close(found, delta, atol=1e-5, rtol=1e-5)
    assert adapter.qkv(x) is None


@torch.no_grad()
def test_lora_is_of_its_rank_and_leaves_the_keys() -> None:
    adapter = build_adapter(AdapterSpec(kind="lora", rank=2), 24)
    for parameter in adapter.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(2))
    delta = adapter.qkv(torch.eye(24)[None, None])
    assert delta is not None
    q, k, v = delta[0, 0].split(24, dim=-1)
    assert torch.linalg.matrix_rank(q) == 2
    assert torch.linalg.matrix_rank(v) == 2
    assert not bool(k.any())
    zeros = adapter.qkv(torch.zeros(1, 1, 1, 24))
    assert zeros is not None
    assert not bool(zeros.any()), "padding must stay SAM's constant"


@pytest.mark.parametrize("side", [4, 5, 7])
@torch.no_grad()
def test_sam_med2ds_adapter_keeps_any_grid_and_looks_at_the_whole_image(side: int) -> None:
    adapter = build_adapter(AdapterSpec(kind="sam-med2d"), 24)
    for parameter in adapter.parameters():
        parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    x = grid(side, side)
    found = adapter.beside_mlp(x)
    assert found is not None
    assert found.shape == x.shape
    far = x.clone()
    far[:, -1, -1] += 10
    moved = adapter.beside_mlp(far)
    assert moved is not None
    assert float((moved - found)[:, 0, 0].abs().max()) > 1e-4, "the squeeze is of all tokens"


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_an_adapter_learns(kind: AdapterKind) -> None:
    """A last layer at zero hides the others for one step, not longer."""
    torch.manual_seed(0)
    encoder = SamEncoder(SMALL, image_size=80, adapter=AdapterSpec(kind=kind, rank=2))
    adapters = {name: one for name, one in encoder.named_parameters() if ".adapter." in name}
    optimizer = torch.optim.SGD(adapters.values(), lr=1.0)
    pixels = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(5))
    target = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(6))
    for _ in range(3):
        optimizer.zero_grad()
        (encoder(pixels).embedding - target).square().mean().backward()
        optimizer.step()
    assert all(one.grad is not None and float(one.grad.abs().max()) > 0 for one in adapters.values())
