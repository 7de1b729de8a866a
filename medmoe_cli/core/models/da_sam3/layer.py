"""The dual-adaptive layer: SAM3's fusion layer whose feed-forward network is a routed mixture (paper section 2.3).

It is a subclass of transformers' layer and takes over its modules; what the router needs are arguments of `forward`,
so the layer can be recomputed, copied and run in parallel like any other.
Shapes: Q queries, N tokens of an image, D width, H hidden width, T tokens of a text, E experts, K chosen.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3DetrEncoderLayer

from medmoe_cli.core.models.da_sam3.router import ExpertRouter
from medmoe_cli.core.nn.moe import Experts, LowRankExperts, Routing, choose_experts
from medmoe_cli.core.nn.moe.experts import Activation


class DualAdaptiveLayer(Sam3DetrEncoderLayer):
    """A fusion layer with experts.

    Args:
        layer: whose modules it takes over; the feed-forward network stays the frozen base of low-rank experts, and is
            what full experts begin as.
        experts: low-rank or full ones.
        router: None for a single expert, which every token uses.
        top_k: K.
    """

    def __init__(
        self,
        layer: Sam3DetrEncoderLayer,
        *,
        experts: LowRankExperts | Experts,
        router: ExpertRouter | None,
        top_k: int,
    ) -> None:
        nn.Module.__init__(self)  # every part is taken over: none is made anew
        self.config = layer.config
        for name, module in layer.named_children():
            self.add_module(name, module)
        self.experts, self.router, self.top_k = experts, router, top_k
        self.activation = cast(Activation, layer.mlp.activation_fn)
        if isinstance(experts, Experts):
            _copy_into(experts, layer.mlp.fc1, layer.mlp.fc2)
            del self.mlp

    def forward(  # type: ignore[override]
        self, vision_QND: Tensor, *, prompt_QTD: Tensor, prompt_mask_QT: Tensor, position_QND: Tensor
    ) -> tuple[Tensor, Routing | None]:
        """The tokens after the layer, and how they were routed (None without a router)."""
        tokens_QND = attended(
            self, vision_QND, prompt_QTD=prompt_QTD, prompt_mask_QT=prompt_mask_QT, position_QND=position_QND
        )
        normed_QND = self.layer_norm3(tokens_QND)
        items_XD = normed_QND.flatten(0, 1)
        routing, used = None, _everyone(items_XD)
        if self.router is not None:
            logits_QNE = self.router(
                normed_QND, vision_QND=vision_QND, prompt_QTD=prompt_QTD, prompt_mask_QT=prompt_mask_QT
            )
            # The gates' own gradient: with two experts and more chosen, a softmax over the chosen teaches the router.
            used = routing = choose_experts(
                logits_QNE.flatten(0, 1), num_active=self.top_k, straight_through=self.top_k == 1
            )
        if isinstance(self.experts, Experts):
            answer_XD = self.experts(items_XD, used)
        else:
            answer_XD = self.experts(
                items_XD, used, first=self.mlp.fc1, activation=self.activation, second=self.mlp.fc2
            )
        answer_QND = answer_XD.unflatten(0, vision_QND.shape[:2])
        return self.dropout(answer_QND) + tokens_QND, routing


def attended(
    layer: Sam3DetrEncoderLayer, vision_QND: Tensor, *, prompt_QTD: Tensor, prompt_mask_QT: Tensor, position_QND: Tensor
) -> Tensor:
    """The first two thirds of a fusion layer: image tokens attend to one another, then to the text."""
    normed = layer.layer_norm1(vision_QND)
    placed = normed + position_QND
    change, _ = layer.self_attn(query=placed, key=placed, value=normed)
    tokens = layer.dropout(change) + vision_QND
    change, _ = layer.cross_attn(
        query=layer.layer_norm2(tokens),
        key=prompt_QTD,
        value=prompt_QTD,
        attention_mask=prompt_mask_QT[:, None, None].expand(-1, -1, tokens.shape[1], -1),
    )
    return cast(Tensor, layer.dropout(change) + tokens)


def plain_layer(
    layer: Sam3DetrEncoderLayer, vision_QND: Tensor, *, prompt_QTD: Tensor, prompt_mask_QT: Tensor, position_QND: Tensor
) -> Tensor:
    """The tokens after a fusion layer without experts."""
    tokens = attended(
        layer, vision_QND, prompt_QTD=prompt_QTD, prompt_mask_QT=prompt_mask_QT, position_QND=position_QND
    )
    return cast(Tensor, layer.dropout(layer.mlp(layer.layer_norm3(tokens))) + tokens)


def _everyone(items_XD: Tensor) -> Routing:
    """A single expert for all."""
    ones = items_XD.new_ones(len(items_XD), 1)
    return Routing(
        gates=ones,
        indices=torch.zeros(ones.shape, dtype=torch.int64, device=ones.device),
        logits=ones,
        probabilities=ones,
        load=ones.new_full((1,), len(items_XD)),
    )


@torch.no_grad()
def _copy_into(experts: Experts, first: nn.Linear, second: nn.Linear) -> None:
    experts.weight_in.copy_(first.weight.T.expand_as(experts.weight_in))
    experts.bias_in.copy_(first.bias.expand_as(experts.bias_in))
    experts.weight_out.copy_(second.weight.T.expand_as(experts.weight_out))
    experts.bias_out.copy_(second.bias.expand_as(experts.bias_out))
