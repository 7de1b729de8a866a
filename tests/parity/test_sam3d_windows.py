"""Attention without padding against padded windows: forward, and gradients of every parameter and the input.

In float64, where equal means equal: with tables this large float32 rounds differently in the two.
"""

import pytest
import torch

from medmoe_cli.core.nn.sam3d.attention import Attention3d
from tests.tools.padded_sam3d import padded_attention
from tests.tools.sam3d import randomise


def compare(*, grid: int, window: int, published: bool, heads: int = 2, batch: int = 2) -> None:
    attention = Attention3d(8, num_heads=heads, window=window, grid=grid, published_positions=published)
    randomise(attention.double(), seed=grid + window)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(batch, grid, grid, grid, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(tokens.shape, generator=generator, dtype=torch.float64)
    results = []
    for run in (attention, lambda x: padded_attention(attention, x)):
        attention.zero_grad()
        tokens.grad = None
        out = run(tokens)
        (out * weights).mean().backward()
        assert tokens.grad is not None
        gradients = {name: p.grad.clone() for name, p in attention.named_parameters() if p.grad is not None}
        results.append((out.detach(), {**gradients, "input": tokens.grad.clone()}))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert float((ours - theirs).abs().max()) <= 1e-11 * float(theirs.abs().max())
    assert our_gradients.keys() == their_gradients.keys()
    assert len(our_gradients) == 8
    for name, expected in their_gradients.items():
        assert float((our_gradients[name] - expected).abs().max()) <= 1e-10 * float(expected.abs().max()), name


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(("grid", "window"), [(8, 14), (8, 16), (4, 20), (8, 8), (5, 3), (6, 3), (7, 4), (3, 0)])
def test_windows_without_padding_equal_padded_ones(grid: int, window: int, published: bool) -> None:
    compare(grid=grid, window=window, published=published)


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(("grid", "window"), [(8, 20), (16, 14), (20, 14)])
def test_large_windows(grid: int, window: int, published: bool) -> None:
    compare(grid=grid, window=window, published=published, heads=1, batch=1)


@pytest.mark.parametrize("published", [True, False])
def test_nothing_changes_when_heads_go_in_turns(published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmoe_cli.core.nn.sam3d.attention.LARGEST_BIAS", 4 * 27 * 27 * 27)
    compare(grid=5, window=3, published=published, heads=4)
    compare(grid=3, window=6, published=published, heads=4)


def test_the_two_forms_of_the_bias_differ() -> None:
    outputs = []
    for published in (True, False):
        attention = Attention3d(8, num_heads=2, window=0, grid=4, published_positions=published)
        randomise(attention, seed=0)
        outputs.append(attention(torch.randn(1, 4, 4, 4, 8, generator=torch.Generator().manual_seed(0))).detach())
    assert float((outputs[0] - outputs[1]).abs().max()) > 0.01
