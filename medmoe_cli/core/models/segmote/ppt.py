"""Progressive prompt tokenization: learned queries read a prompt out of the image (paper section 3.4, fig. 3).

Shapes: Q queries (one mask each), P prompt tokens per query, D width, h w the image embedding's grid.

In training the engine gives some self-prompted queries a mask or a text as foreground prior and the others nothing;
in prediction there is none. The mask prior reaches the attention through the dense prompt that is added to the image
embedding, the text prior is added to the learned queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PromptTokenizer(nn.Module):
    """LayerNorm of the image features plus a linear code of the coordinates; attention; residual MLP; LayerNorm.

    Layers and parameter count are those of the public code (7.09 M at width 768, 0.79 M at 256).

    Args:
        width: D.
        num_queries: prompt tokens P that replace a query's point and box tokens.
        grid: (h, w).
        num_heads: attention heads.
    """

    def __init__(self, *, width: int, num_queries: int, grid: tuple[int, int], num_heads: int = 8) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_queries, width) * width**-0.5)
        self.norm_image = nn.LayerNorm(width)
        self.coordinates = nn.Linear(2, width)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm = nn.LayerNorm(width)
        rows = (torch.arange(grid[0]) + 0.5) / grid[0]
        columns = (torch.arange(grid[1]) + 0.5) / grid[1]
        y_hw, x_hw = torch.meshgrid(rows, columns, indexing="ij")
        self.register_buffer("xy_L2", torch.stack([x_hw, y_hw], dim=-1).reshape(-1, 2) * 2 - 1, persistent=False)

    xy_L2: Tensor

    def forward(self, embedding_QDhw: Tensor, prior_QD: Tensor) -> Tensor:
        """The prompt tokens of each query.

        Args:
            embedding_QDhw: image embedding with the dense (mask) prompt added.
            prior_QD: text prior, zero where there is none.

        Returns:
            (Q, P, D).
        """
        image_QLD = self.norm_image(embedding_QDhw.flatten(2).transpose(1, 2)) + self.coordinates(self.xy_L2)
        queries_QPD = self.queries + prior_QD[:, None]
        tokens_QPD, _ = self.attention(queries_QPD, image_QLD, image_QLD, need_weights=False)
        return self.norm(tokens_QPD + self.mlp(tokens_QPD))
