"""DA-SAM3: a SAM3 whose fusion encoder routes tokens over low-rank experts, by token, image and concept.

Paper:   Dual-Adaptive SAM3: Hierarchical Routing over Low-Rank Expert Layers for Parameter-Efficient Medical Image
         Segmentation, 2026 (section 2)
Code:    Reconsider80/DA-SAM3, read as evidence for what the paper leaves open; no line is copied
Differs: 1. A is random and different for each expert, B zero; with both zero, as in section 2.4, no expert ever
            receives a gradient (tests/unit/models/test_da_sam3_layer.py).
         2. both linear maps of a feed-forward network have deltas, around SAM3's own activation (ReLU); eq. 4-6 leave
            the second map out and name GELU. With all B zero the model is SAM3 (tests/parity/test_sam3_identity.py).
         3. experts own no base weights: what is frozen stays frozen (tests/contracts: the gradient audit).
         4. the router's context is attention over a grid of the image, not over one vector, and the concept the mean of
            its own tokens (tests/unit/models/test_da_sam3_router.py).
         5. depths L/6, L/4, L/2 are rounded up and kept distinct; rounding down leaves two of six layers
            (tests/unit/models/test_da_sam3_depths.py).
         6. sparsity is the entropy of the whole distribution: a norm of gates that sum to one is a constant
            (tests/contracts: balance losses are least as intended).
         7. absent concepts are asked for too, as empty masks, and presence is learned (tests/unit/engine).
         8. names may be trained to compete for pixels (loss `choice`), and then do in prediction
            (tests/unit/engine/test_competing_names.py).
         9. the small backbone may have a convolutional stem whose finer maps join the mask features
            (tests/unit/models/test_da_sam3_model.py).
Shapes:  B images, Q queries, D width, N tokens of an image, T tokens of a text, S side of the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.sam3.modeling_sam3 import Sam3DetrEncoderLayer

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.models.da_sam3.answer import answer
from medmoe_cli.core.models.da_sam3.backbone import add_experts, load_backbone_tensors
from medmoe_cli.core.models.da_sam3.card import CARD
from medmoe_cli.core.models.da_sam3.concepts import Asked, Concepts
from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.models.da_sam3.layer import DualAdaptiveLayer, plain_layer
from medmoe_cli.core.models.da_sam3.stages import ENCODER_PARTS, training_stages
from medmoe_cli.core.nn.channels import channel_mix
from medmoe_cli.core.nn.moe import Routing, balance_loss, entropy
from medmoe_cli.core.nn.sam3.hf import build_sam3, start_small
from medmoe_cli.core.nn.sam3.source import SIZES, TOKENIZER
from medmoe_cli.core.nn.sam3.stem import ConvStem
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage
from medmoe_cli.core.nn.weights import load_into

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "image encoder": ("sam3.vision_encoder.", "stem.", "channel_mix."),
    "text encoder": ("sam3.text_encoder.", "sam3.text_projection."),
    "decoder": ("sam3.detr_decoder.", "sam3.dot_product_scoring."),
    "mask head": ("sam3.mask_decoder.",),
    "geometry encoder": ("sam3.geometry_encoder.",),
}


class DaSam3(Segmenter):
    """DA-SAM3 over a SAM3 of any size.

    Args:
        config: the `model` section.
        plan: the dataset's plan: input size, channels, class names and their texts, number of experts.
        backbone: public weights, as `models add sam3` keeps them; None for random ones.
    """

    card = CARD
    open_vocabulary = True
    scores_are_presence = True

    def __init__(self, config: DaSam3Config, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.config = config
        self.class_names = plan.class_names
        self.rivals = len(plan.class_names) if config.losses.get("choice", 0) > 0 else 0
        self.input_size = plan.input_size
        self.shown_size = config.shown_size(plan.input_size)
        num_experts = config.num_experts or plan.num_experts
        if config.routed and config.top_k > num_experts:
            raise ConfigError(
                f"top_k {config.top_k} is more than the {num_experts} experts",
                where="model.top_k",
                fix=f"set model.top_k to {num_experts} or less, or model.num_experts to {config.top_k} or more",
            )
        sizes = config.sizes_at(self.shown_size)
        self.channel_mix = channel_mix(plan.input_channels, context_slices=plan.context_slices)
        self.sam3 = build_sam3(sizes, image_size=self.shown_size)
        if config.backbone == "tiny":
            start_small(self.sam3)
        self.stem: ConvStem | None = None
        if config.backbone == "tiny" and config.stem == "conv":
            self.stem = ConvStem(
                patch=sizes.patch,
                finest=config.mask_stride,
                channels=config.stem_channels,
                token_width=sizes.vision_width,
                width=sizes.width,
            )
        self.concepts_known = Concepts(
            [plan.class_prompts.get(name, name) for name in plan.class_names],
            num_merges=sizes.num_merges,
            length=sizes.text_length,
        )
        if backbone is not None:
            name = config.backbone_weights or config.backbone
            self.backbone_report = load_backbone_tensors(self.sam3, backbone, sizes=sizes, name=name)
            self.concepts_known.merges.copy_(backbone[TOKENIZER])
        if self.stem is not None:
            self.sam3.vision_encoder.backbone.embeddings.patch_embeddings = nn.Identity()  # the stem makes the tokens
        add_experts(self.sam3, config, sizes=sizes, num_experts=num_experts)

    @classmethod
    def build(
        cls,
        config: DaSam3Config,
        plan: Plan,
        *,
        backbone: Mapping[str, Tensor] | None = None,
        restore: bool = False,
    ) -> DaSam3:
        """The model with its backbone's weights, or those of a trained DA-SAM3, and what does not train frozen.

        Raises:
            ConfigError: config and plan do not go together, or the weights are of other sizes.
            CheckpointError: tensors are missing.
        """
        public = backbone if backbone is not None and SIZES in backbone else None
        model = cls(config, plan, backbone=public)
        if backbone is not None and public is None:
            model.backbone_report = load_into(model, backbone, where=f"model '{config.backbone_weights}'")
            if model.backbone_report.missing:
                raise CheckpointError(
                    f"model '{config.backbone_weights}' has other parts",
                    why=f"{model.backbone_report.missing[0]} and {len(model.backbone_report.missing) - 1} more "
                    "tensors are missing",
                    fix="train with the same model section as it, or start from a SAM3",
                )
        prefixes = model.stages()[0].trainable
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        return model

    def encode(self, images: Tensor) -> Features:
        """Encode images (B, channels, S, S) in [0, 1].

        The maps are 'level0', 'level1', ... (B, D, h, w): SAM3's pyramid, finest first, the coarsest being what the
        fusion encoder and the decoder see.
        """
        if self.channel_mix is not None:
            images = self.channel_mix(images)
        pixels = images.expand(-1, 3, -1, -1)
        if pixels.shape[-1] != self.shown_size:
            size = (self.shown_size, self.shown_size)
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = (pixels - 0.5) / 0.5
        levels = self._with_stem(pixels) if self.stem is not None else self._pyramid(pixels)
        maps = {f"level{index}": level for index, level in enumerate(levels)}
        return Features(maps=maps, input_size=(self.input_size, self.input_size))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        """Answer Q queries, each of which names a concept."""
        asked = self.concepts_known.asked(self.sam3, prompts.class_index)
        weight = self.sam3.text_projection.weight
        levels = [tensor.to(weight.dtype) for _, tensor in sorted(features.maps.items())]
        coarse = levels[-1]
        code = self.sam3.vision_encoder.neck.position_encoding(coarse.shape, coarse.device, coarse.dtype)
        position_QND = code.flatten(2).transpose(1, 2)
        tokens_QND, routing = self._fused(coarse.flatten(2).transpose(1, 2), asked, position_QND)
        answered = answer(
            self.sam3,
            tokens_QND,
            levels,
            asked,
            position_QND=position_QND,
            instances=self.config.output == "instances",
        )
        masks = answered.masks.float()
        size = (self.input_size, self.input_size)
        return Output(
            logits=F.interpolate(masks, size=size, mode="bilinear", align_corners=False),
            low_res_logits=masks,
            scores=answered.presence.sigmoid(),
            score_logits=answered.presence,
            aux_losses=self._balance(routing) if self.training else {},
            routing=routing,
        )

    def concepts(self, names: Sequence[str]) -> None:
        """Make any words askable beside the classes; see `Segmenter.concepts`."""
        self.concepts_known.name(names)

    def stages(self) -> tuple[Stage, ...]:
        """Adapt, then calibrate; see `stages.training_stages`."""
        return training_stages(
            self.config,
            num_layers=len(self.sam3.detr_encoder.layers),
            learns_channels=self.channel_mix is not None,
        )

    @property
    def mask_size(self) -> tuple[int, ...]:
        """Grid of the finest level."""
        patch = self.config.sizes_at(self.shown_size).patch
        stride = self.config.mask_stride if self.stem is not None else None
        side = self.shown_size // stride if stride is not None else 4 * (self.shown_size // patch)
        return (side, side)

    def encoder_prefixes(self) -> tuple[str, ...]:
        """SAM3's image encoder, the stem and the mix of channels."""
        return ENCODER_PARTS

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """SAM3's parts, and experts, routers and norms of the fusion encoder apart from it."""
        counted: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            counted.setdefault(_group_of(name), []).append(parameter)
        return tuple(
            ParameterGroup(
                name=group,
                total=sum(parameter.numel() for parameter in members),
                trainable=sum(parameter.numel() for parameter in members if parameter.requires_grad),
            )
            for group, members in counted.items()
        )

    def _pyramid(self, pixels_B3SS: Tensor) -> Sequence[Tensor]:
        """SAM3's levels; the coarsest of the four is not used, as in SAM3."""
        return cast(Sequence[Tensor], self.sam3.vision_encoder(pixels_B3SS).fpn_hidden_states[:-1])

    def _with_stem(self, pixels_B3SS: Tensor) -> Sequence[Tensor]:
        """The same from the stem's tokens, its own finer maps added to the levels of their stride."""
        assert self.stem is not None
        encoder = self.sam3.vision_encoder
        tokens_BDhw, skips = self.stem(pixels_B3SS)
        placed = tokens_BDhw.flatten(2).transpose(1, 2) + encoder.backbone.embeddings.position_embeddings
        hidden_BhwD = encoder.backbone.layer_norm(placed).unflatten(1, tuple(tokens_BDhw.shape[-2:]))
        for layer in encoder.backbone.layers:
            hidden_BhwD = layer(hidden_BhwD)
        spatial = hidden_BhwD.permute(0, 3, 1, 2)
        levels = [layer(spatial) for layer in encoder.neck.fpn_layers[:3]]
        finer = len(skips) + 1 - len(levels)  # skips at half the patch and finer; levels at the patch, half, a quarter
        joined = [level + skip for level, skip in zip(levels[:-1], skips[finer:], strict=True)]
        return [*skips[:finer], *joined, levels[-1]]

    def _fused(self, tokens_QND: Tensor, asked: Asked, position_QND: Tensor) -> tuple[Tensor, dict[str, Routing]]:
        routing: dict[str, Routing] = {}
        for index, layer in enumerate(self.sam3.detr_encoder.layers):
            arguments = (tokens_QND, asked.features, asked.mask, position_QND)
            if self.config.checkpoint_layers and torch.is_grad_enabled():
                tokens_QND, chosen = checkpoint(_through, layer, *arguments, use_reentrant=False)
            else:
                tokens_QND, chosen = _through(layer, *arguments)
            if chosen is not None:
                routing[f"layer{index + 1}"] = chosen
        return tokens_QND, routing

    def _balance(self, routing: Mapping[str, Routing]) -> dict[str, Tensor]:
        """The auxiliary losses of all layers; a random router has nothing to learn."""
        if not routing or not self.config.learned_router:
            return {}
        return balance_losses(
            routing, balance_weight=self.config.balance_weight, entropy_weight=self.config.entropy_weight
        )


def _through(
    layer: nn.Module, tokens_QND: Tensor, prompt_QTD: Tensor, prompt_mask_QT: Tensor, position_QND: Tensor
) -> tuple[Tensor, Routing | None]:
    """The tokens after a fusion layer, and how they were routed where it has experts."""
    if isinstance(layer, DualAdaptiveLayer):
        routed: tuple[Tensor, Routing | None] = layer(
            tokens_QND, prompt_QTD=prompt_QTD, prompt_mask_QT=prompt_mask_QT, position_QND=position_QND
        )
        return routed
    plain = cast(Sam3DetrEncoderLayer, layer)
    tokens = plain_layer(
        plain, tokens_QND, prompt_QTD=prompt_QTD, prompt_mask_QT=prompt_mask_QT, position_QND=position_QND
    )
    return tokens, None


def balance_losses(
    routing: Mapping[str, Routing], *, balance_weight: float, entropy_weight: float
) -> dict[str, Tensor]:
    """Balance over experts and certainty of each decision, summed over layers (paper eq. 7)."""
    balance = torch.stack([balance_loss(layer) for layer in routing.values()]).sum()
    uncertainty = torch.stack([entropy(layer) for layer in routing.values()]).sum()
    return {"balance": balance_weight * balance, "entropy": entropy_weight * uncertainty}


def _group_of(name: str) -> str:
    for group, prefixes in _GROUPS.items():
        if name.startswith(prefixes):
            return group
    for part in ("experts", "router"):
        if f".{part}." in name:
            return "routers" if part == "router" else part
    return "norms of the fusion encoder" if ".layer_norm" in name else "fusion encoder"
