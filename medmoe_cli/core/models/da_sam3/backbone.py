"""The SAM3 that is adapted: built at the config's sizes, filled with public weights, and given its experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3DetrEncoderLayer

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.sam3 import Sam3Sizes
from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.models.da_sam3.layer import DualAdaptiveLayer
from medmoe_cli.core.models.da_sam3.router import ExpertRouter
from medmoe_cli.core.nn.moe import Experts, LowRankExperts
from medmoe_cli.core.nn.moe.experts import Activation
from medmoe_cli.core.nn.sam3.source import SIZES, TOKENIZER, unpack_sizes
from medmoe_cli.core.nn.weights import KeyReport, load_into, refuse_missing

# Keys of the `model` section that give the small SAM3 its sizes, where they are called otherwise than the sizes.
_KEYS = {"patch": "patch_size"}
_FIXED = frozenset({"pretrain_size", "window", "dropout"})  # no tensor but the position table depends on them


def load_backbone_tensors(sam3: Sam3Model, tensors: Mapping[str, Tensor], *, sizes: Sam3Sizes, name: str) -> KeyReport:
    """Copy public weights into a SAM3 of the same sizes.

    Args:
        sam3: without experts.
        tensors: as `models add sam3` keeps them.
        sizes: of `sam3`.
        name: of the backbone, for errors.

    Raises:
        ConfigError: they are of a SAM3 of other sizes than the config's.
        CheckpointError: tensors are missing.
    """
    theirs = unpack_sizes(tensors[SIZES])
    differing = {
        key: (getattr(sizes, key), value)
        for key, value in theirs.model_dump().items()
        if key not in _FIXED and getattr(sizes, key) != value
    }
    if differing:
        raise ConfigError(
            f"backbone '{name}' is a SAM3 of other sizes",
            where="model",
            why="; ".join(f"{key} is {other} there, {own} here" for key, (own, other) in differing.items()),
            fix=" ".join(f"--set model.{_KEYS.get(key, key)}={other}" for key, (_, other) in differing.items()),
        )
    weights = {key: tensor for key, tensor in tensors.items() if key not in {SIZES, TOKENIZER}}
    report = load_into(sam3, weights, where=f"backbone '{name}'")
    refuse_missing(report.missing, name=name)
    return report


def add_experts(sam3: Sam3Model, config: DaSam3Config, *, sizes: Sam3Sizes, num_experts: int) -> None:
    """Replace the chosen fusion layers by dual-adaptive ones, which take over their modules."""
    layers = sam3.detr_encoder.layers
    for index in config.layers:
        layer = cast(Sam3DetrEncoderLayer, layers[index])
        experts: Experts | LowRankExperts
        if config.experts == "full":
            activation = cast(Activation, layer.mlp.activation_fn)
            experts = Experts(num_experts, width=sizes.width, hidden=sizes.mlp, activation=activation)
        else:
            count = num_experts if config.routed else 1
            experts = LowRankExperts(count, width=sizes.width, hidden=sizes.mlp, rank=config.rank)
        router = None
        if config.routed:
            router = ExpertRouter(
                width=sizes.width,
                heads=sizes.heads,
                num_experts=num_experts,
                kind=config.router,
                grid=config.context_grid,
            )
        layers[index] = DualAdaptiveLayer(layer, experts=experts, router=router, top_k=config.top_k)
