"""Our way through segment_anything's two-way transformer against its own."""

import torch
from segment_anything.modeling.transformer import TwoWayTransformer

from medmoe_cli.core.nn.sam3d.two_way import two_way
from tests.tools.sam3d import randomise


def test_with_every_token_in_use_the_result_is_segment_anythings() -> None:
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=16, num_heads=4)
    randomise(transformer.double(), seed=0)
    generator = torch.Generator().manual_seed(1)
    image, positions = torch.randn(2, 2, 32, 27, 1, generator=generator, dtype=torch.float64)
    tokens = torch.randn(2, 5, 32, generator=generator, dtype=torch.float64)
    theirs = transformer(image, positions, tokens)
    ours = two_way(
        transformer,
        image_QLC=image.flatten(2).transpose(1, 2),
        positions_1LC=positions.flatten(2).transpose(1, 2),
        tokens_QTC=tokens,
        used_QT=torch.ones(2, 5, dtype=torch.bool),
    )
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-11, rtol=0)
