"""The router knows the token, the image and the concept, and each of them alone can change its mind."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from medmoe_cli.core.models.da_sam3.router import ExpertRouter, concept_of, pooled

WIDTH, TOKENS = 16, 36


def router(kind: Literal["dual", "token", "random"] = "dual") -> ExpertRouter:
    torch.manual_seed(0)
    return ExpertRouter(width=WIDTH, heads=2, num_experts=4, kind=kind, grid=3).eval()


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    return {
        "tokens_QND": torch.randn(2, TOKENS, WIDTH, generator=generator),
        "vision_QND": torch.randn(2, TOKENS, WIDTH, generator=generator),
        "prompt_QTD": torch.randn(2, 3, WIDTH, generator=generator),
        "prompt_mask_QT": mask,
    }


def scores(module: ExpertRouter, given: dict[str, Tensor]) -> Tensor:
    return module(given["tokens_QND"], **{name: one for name, one in given.items() if name != "tokens_QND"})


@pytest.mark.parametrize("name", ["tokens_QND", "vision_QND", "prompt_QTD"])
def test_each_input_moves_the_scores(name: str) -> None:
    given = inputs()
    changed = {**given, name: given[name] + torch.linspace(-1, 1, WIDTH)}
    assert (scores(router(), given) - scores(router(), changed)).abs().max() > 1e-3


def test_the_context_knows_the_concept() -> None:
    # With the concept's own part of the projection at zero it is heard through the attention alone: over one pooled
    # vector attention is the identity, and nothing would change.
    module, given = router(), inputs()
    assert module.projection is not None
    with torch.no_grad():
        module.projection.weight[:, 2 * WIDTH :] = 0
        other = {**given, "prompt_QTD": given["prompt_QTD"].flip(2)}
        assert (scores(module, given) - scores(module, other)).abs().max() > 1e-3


def test_scores_are_the_projection_of_the_joined_inputs() -> None:
    module, given = router(), inputs()
    assert module.projection is not None
    assert module.context is not None
    concept = concept_of(given["prompt_QTD"], given["prompt_mask_QT"])
    grid = pooled(given["vision_QND"], 3)
    context, _ = module.context(concept[:, None], grid, grid)
    joined = torch.cat(
        [given["tokens_QND"], context.expand(-1, TOKENS, -1), concept[:, None].expand(-1, TOKENS, -1)], dim=-1
    )
    torch.testing.assert_close(scores(module, given), module.projection(joined), atol=1e-5, rtol=1e-5)


def test_the_concept_gets_no_gradient_from_the_projection() -> None:
    module, given = router(), inputs()
    prompt = given["prompt_QTD"].requires_grad_()
    assert module.context is not None
    for parameter in module.context.parameters():
        parameter.data.zero_()
    scores(module, given).square().sum().backward()
    assert prompt.grad is None or float(prompt.grad.abs().max()) == 0


def test_padding_of_a_text_counts_for_nothing() -> None:
    given = inputs()
    changed = {**given, "prompt_QTD": given["prompt_QTD"].clone()}
    changed["prompt_QTD"][0, 2] = 100
    assert torch.equal(scores(router(), given), scores(router(), changed))


def test_a_random_router_draws_while_training_and_repeats_itself_in_evaluation() -> None:
    module, given = router("random"), inputs()
    assert list(module.parameters()) == []
    assert torch.equal(scores(module, given), scores(module, given))
    assert torch.equal(scores(module, given)[0], scores(module, given)[1])
    module.train()
    assert not torch.equal(scores(module, given), scores(module, given))


def test_scores_are_never_half_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scores(router(), inputs())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, scores(router(), inputs()))
