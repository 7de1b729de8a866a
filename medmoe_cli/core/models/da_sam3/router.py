"""DER: which experts a token uses, decided by the token, the image and the concept (paper section 2.3, eq. 2 and 3).

Differs from the public code: the image is pooled to a grid, not to one vector, over which attention would be the
identity and the context would not know the concept; the concept is the mean of its text's own tokens.
Shapes: Q queries, N tokens of an image, D width, T tokens of a text, E experts.
"""

from __future__ import annotations

from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExpertRouter(nn.Module):
    """Scores tokens for experts.

    Args:
        width: D.
        heads: of the attention by which the concept looks at the image.
        num_experts: E.
        kind: 'dual' for token, image and concept; 'token' for the token alone; 'random' for scores that depend on
            nothing but the token's place, drawn anew at each training step.
        grid: side of the grid to which the image is pooled.
    """

    def __init__(
        self, *, width: int, heads: int, num_experts: int, kind: Literal["dual", "token", "random"], grid: int
    ) -> None:
        super().__init__()
        self.kind, self.grid, self.num_experts = kind, grid, num_experts
        self.context = nn.MultiheadAttention(width, heads, batch_first=True) if kind == "dual" else None
        self.projection: nn.Linear | None = None
        if kind != "random":
            inputs = 3 * width if kind == "dual" else width
            self.projection = nn.Linear(inputs, num_experts, bias=False)
            nn.init.normal_(self.projection.weight, std=inputs**-0.5)

    def forward(self, tokens_QND: Tensor, *, vision_QND: Tensor, prompt_QTD: Tensor, prompt_mask_QT: Tensor) -> Tensor:
        """Scores (Q, N, E), in float32.

        Args:
            tokens_QND: the network's input, which is routed.
            vision_QND: the image's tokens as they entered the layer.
            prompt_QTD: tokens of each query's text.
            prompt_mask_QT: bool, False on padding.
        """
        if self.projection is None:
            return self._at_random(tokens_QND)
        # Scores are compared with one another, so they are never rounded to half precision.
        with torch.autocast(tokens_QND.device.type, enabled=False):
            weight_ED = self.projection.weight.float()
            if self.context is None:
                return F.linear(tokens_QND.float(), weight_ED)
            concept_QD = concept_of(prompt_QTD, prompt_mask_QT).float()
            pooled_QGD = pooled(vision_QND.float(), self.grid)
            context_Q1D, _ = self.context(concept_QD[:, None], pooled_QGD, pooled_QGD, need_weights=False)
            # W [h; ctx; e] = W1 h + W2 ctx + W3 e: what does not depend on the token is added once per query.
            by_token_ED, by_context_ED, by_concept_ED = weight_ED.chunk(3, dim=1)
            per_query_QE = F.linear(context_Q1D[:, 0], by_context_ED) + F.linear(concept_QD.detach(), by_concept_ED)
            return F.linear(tokens_QND.float(), by_token_ED) + per_query_QE[:, None]

    def _at_random(self, tokens_QND: Tensor) -> Tensor:
        queries, places, _ = tokens_QND.shape
        if self.training:
            return torch.rand(queries, places, self.num_experts, device=tokens_QND.device)
        generator = torch.Generator().manual_seed(places)
        scores_NE = torch.rand(places, self.num_experts, generator=generator)
        return scores_NE.to(tokens_QND.device).expand(queries, -1, -1)


def concept_of(prompt_QTD: Tensor, mask_QT: Tensor) -> Tensor:
    """(Q, D) mean of a text's tokens, padding left out."""
    weight_QT1 = mask_QT.unsqueeze(-1).to(prompt_QTD.dtype)
    return (prompt_QTD * weight_QT1).sum(1) / weight_QT1.sum(1).clamp(min=1)


def pooled(tokens_QND: Tensor, grid: int) -> Tensor:
    """(Q, G * G, D) means over the cells of a grid of the image, as fine as its tokens at most."""
    side = isqrt(tokens_QND.shape[1])
    map_QDhw = tokens_QND.transpose(1, 2).unflatten(2, (side, side))
    return F.adaptive_avg_pool2d(map_QDhw, min(grid, side)).flatten(2).transpose(1, 2)
