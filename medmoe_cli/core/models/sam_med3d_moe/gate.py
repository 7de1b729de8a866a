"""The gate: which expert, if any, an image and its prompts call for.

Paper:   SAM-Med3D-MoE, section 2.2 and figure 3
Differs: 1. it has m + 1 answers, the first for the general decoder. With the paper's m a single expert would always
            score 1 (tests/unit/models/test_sam_med3d_gate.py).
         2. unstated there: all prompt tokens take part, not one; positions are added to queries and keys as in SAM;
            image tokens are averaged before the two fully connected layers.
Shapes:  Q queries, T prompt tokens, C width, L image tokens, m experts.
"""

from __future__ import annotations

from typing import Literal

import torch
from segment_anything.modeling.transformer import TwoWayAttentionBlock
from torch import Tensor, nn

from medmoe_cli.core.nn.moe import Routing, select_above
from medmoe_cli.core.nn.sam3d import PromptTokens
from medmoe_cli.core.nn.sam3d.two_way import two_way_block


class Gate(nn.Module):
    """Self-attention of the prompts, prompts to image, MLP, image to prompts, each with residual and norm; two FC.

    Args:
        width: C.
        num_experts: m.
        hidden: inner width of the two fully connected layers.
        heads: attention heads.
        mlp: inner width of the MLP.
        pooling: of the image tokens.
    """

    def __init__(
        self, width: int, *, num_experts: int, hidden: int, heads: int, mlp: int, pooling: Literal["mean", "max"]
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.block = TwoWayAttentionBlock(embedding_dim=width, num_heads=heads, mlp_dim=mlp)
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, num_experts + 1))

    def forward(self, image_QCsss: Tensor, positions_1Csss: Tensor, prompts: PromptTokens) -> Tensor:
        """Logits (Q, m + 1), the general decoder first; every query has at least one token in use."""
        _, image_QLC = two_way_block(
            self.block,
            tokens_QTC=prompts.values,
            image_QLC=image_QCsss.flatten(2).transpose(1, 2),
            token_positions=prompts.values,
            positions_1LC=positions_1Csss.flatten(2).transpose(1, 2),
            used_QT=prompts.used,
        )
        pooled_QC = image_QLC.mean(1) if self.pooling == "mean" else image_QLC.amax(1)
        logits: Tensor = self.head(pooled_QC)
        return logits


def select(logits_QE: Tensor, *, tau: float, activation: Literal["softmax", "sigmoid"]) -> Routing:
    """The paper's selector (2.3): indices (0, best expert), gates (1 - s, s) where s > tau, (1, 0) elsewhere.

    With 'sigmoid' s is the probability of the best expert against the general decoder alone, sigmoid(z_e - z_0), so
    that two experts for like tasks do not keep each other shut.
    """
    logits_QE = logits_QE.float()
    if activation == "softmax":
        return select_above(logits_QE, threshold=tau)
    best_Q1 = logits_QE[:, 1:].detach().argmax(1, keepdim=True) + 1
    pair = select_above(torch.cat([logits_QE[:, :1], logits_QE.gather(1, best_Q1)], 1), threshold=tau)
    opened_Q = pair.gates[:, 1] > 0
    load = torch.bincount(best_Q1[opened_Q, 0], minlength=logits_QE.shape[1]).to(logits_QE.dtype)
    load[0] = len(logits_QE)
    return Routing(
        gates=pair.gates,
        indices=torch.cat([torch.zeros_like(best_Q1), best_Q1], 1),
        logits=logits_QE,
        probabilities=(logits_QE - logits_QE[:, :1]).sigmoid(),
        load=load,
    )


def named_routing(routing: Routing, *, rows_N: Tensor, expert_Q: Tensor) -> Routing:
    """The routing of Q queries of which only `rows_N` were asked of the gate; the others name their expert.

    Args:
        routing: of the N rows.
        rows_N: their places among the Q.
        expert_Q: index of the named expert from 0; ignored at `rows_N`.
    """
    queries, experts = len(expert_Q), routing.logits.shape[1]
    indices_Q2 = torch.stack([torch.zeros_like(expert_Q), expert_Q + 1], 1).index_copy(0, rows_N, routing.indices)
    gates_Q2 = routing.gates.new_tensor([0.0, 1.0]).repeat(queries, 1).index_copy(0, rows_N, routing.gates)
    named_Q = torch.ones_like(expert_Q, dtype=torch.bool).index_fill(0, rows_N, value=False)
    certain_QE = torch.nn.functional.one_hot(indices_Q2[:, 1], experts).to(routing.probabilities.dtype)
    return Routing(
        gates=gates_Q2,
        indices=indices_Q2,
        logits=routing.logits.new_zeros(queries, experts).index_copy(0, rows_N, routing.logits),
        probabilities=certain_QE.index_copy(0, rows_N, routing.probabilities),
        load=routing.load + torch.bincount(indices_Q2[named_Q, 1], minlength=experts).to(routing.load.dtype),
    )
