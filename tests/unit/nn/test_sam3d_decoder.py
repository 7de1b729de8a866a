"""The 3D mask decoder: masks alone and in company, copies, and gradients."""

import pytest
import torch
from torch import Tensor

from medmoe_cli.core.nn.sam3d import MaskDecoder3d, PromptTokens, Sam3dParts, sam3d_size
from tests.tools.sam3d import no_boxes, small_parts, volumes


def answer(
    parts: Sam3dParts, points: Tensor, labels: Tensor, boxes: Tensor, embedding: Tensor, *, multimask: bool = False
) -> tuple[Tensor, Tensor]:
    sparse, dense = parts.prompt_encoder(points, labels, boxes, None)
    positions = parts.prompt_encoder.dense_positions()
    return parts.mask_decoder(embedding, positions, sparse, dense, multimask=multimask)


@torch.no_grad()
def test_an_answer_does_not_depend_on_the_other_queries() -> None:
    """Among queries with more clicks, a box and nothing at all; in float64, where rounding cannot hide anything."""
    parts = small_parts().eval().double()
    embedding = parts.image_encoder(volumes(1).double())
    points = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0)) * 16
    labels = torch.tensor([[1, -1, -1, -1, -1], [1, 0, 1, 0, 1], [-1] * 5, [-1] * 5])
    boxes = no_boxes(4)
    boxes[2] = torch.tensor([1.0, 2, 3, 9, 10, 11])
    together = answer(parts, points, labels, boxes, embedding)
    assert together[0].shape == (4, 1, 16, 16, 16)
    assert together[1].shape == (4, 1)
    for query, used in enumerate((1, 5, 0, 0)):
        row = slice(query, query + 1)
        alone = answer(parts, points[row, :used], labels[row, :used], boxes[row], embedding)
        for mine, other in zip(alone, together, strict=True):
            torch.testing.assert_close(mine, other[row], atol=1e-10, rtol=0)
    assert float((together[0][0] - together[0][1]).abs().max()) > 1e-3


@torch.no_grad()
def test_one_embedding_serves_many_queries() -> None:
    parts = small_parts().eval()
    embedding = parts.image_encoder(volumes(1))
    points, labels = torch.rand(3, 1, 3) * 16, torch.ones(3, 1, dtype=torch.int64)
    shared = answer(parts, points, labels, no_boxes(3), embedding)
    repeated = answer(parts, points, labels, no_boxes(3), embedding.expand(3, -1, -1, -1, -1))
    torch.testing.assert_close(shared, repeated)


@torch.no_grad()
def test_three_masks_or_one() -> None:
    parts = small_parts().eval()
    embedding = parts.image_encoder(volumes(1))
    arguments = (torch.rand(2, 1, 3) * 16, torch.ones(2, 1, dtype=torch.int64), no_boxes(2), embedding)
    single, three = answer(parts, *arguments), answer(parts, *arguments, multimask=True)
    assert three[0].shape == (2, 3, 16, 16, 16)
    assert three[1].shape == (2, 3)
    for mask in range(3):
        assert float((three[0][:, mask] - single[0][:, 0]).abs().max()) > 1e-3


def test_a_copy_shares_nothing_and_begins_alike() -> None:
    general = small_parts().mask_decoder.requires_grad_(False)
    expert = general.copy()
    assert all(parameter.requires_grad for parameter in expert.parameters())
    assert not any(parameter.requires_grad for parameter in general.parameters())
    before = {name: tensor.clone() for name, tensor in general.state_dict().items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in expert.state_dict().items())
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in general.state_dict().items())


@pytest.mark.parametrize("multimask", [True, False])
def test_gradients_reach_every_parameter_that_the_answer_uses(multimask: bool) -> None:
    parts = small_parts()
    points, labels = torch.rand(3, 2, 3) * 16, torch.tensor([[1, 0], [1, -1], [-1, -1]])
    boxes = no_boxes(3)
    boxes[2] = torch.tensor([1.0, 2, 3, 9, 10, 11])
    masks, has_mask = torch.randn(3, 1, 16, 16, 16), torch.tensor([True, True, False])
    sparse, dense = parts.prompt_encoder(points, labels, boxes, masks, has_mask_Q=has_mask)
    positions = parts.prompt_encoder.dense_positions()
    embedding = parts.image_encoder(volumes(3))
    logits, scores = parts.mask_decoder(embedding, positions, sparse, dense, multimask=multimask)
    (logits.square().mean() + scores.square().mean()).backward()
    idle = (0,) if multimask else (1, 2, 3)
    unused = tuple(f"mask_decoder.output_hypernetworks_mlps.{index}." for index in idle)
    for name, parameter in parts.named_parameters():
        reached = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
        assert reached != name.startswith(unused), name


def test_the_tiny_decoder_answers_at_half_resolution() -> None:
    size = sam3d_size("tiny")
    sparse = PromptTokens(values=torch.zeros(1, 0, 192), used=torch.zeros(1, 0, dtype=torch.bool))
    grid = torch.zeros(1, 192, 8, 8, 8)
    with torch.no_grad():
        logits, _ = MaskDecoder3d(size)(grid, grid, sparse, grid, multimask=False)
    assert logits.shape == (1, 1, 32, 32, 32)
