"""MoE-SAM: a SAM with adapters, whose layers' features experts choose and fuse; all classes at once, no prompt.

Paper:   MoE-SAM: Enhancing SAM for Medical Image Segmentation with Mixture-of-Experts, MICCAI 2025 (section 2)
Code:    Asphyxiate-Rye/E-SAM, read as evidence for what the paper leaves open; no line is copied
Differs: 1. experts choose k of the n layers at each location, as eq. 2-4 are written; the public code's chose among all
            tokens of the batch with a k fixed at construction, so a result depended on its neighbours, and gates of
            1/9408 made the experts a no-op (tests/contracts; tests/unit/models/test_moe_sam_fusion.py).
         2. noise only in training (tests/contracts: evaluation repeats itself).
         3. routed features are added to the experts' answer, or a layer that no expert chose would vanish: `residual`;
            likewise around the self-attention: `attention_residual` (tests/unit/models/test_moe_sam_fusion.py).
         4. the self-attention runs over the locations of the layers' mean by default, 1/n of the tokens of
            `fusion_attention: all_layers`, which is the public code's (benchmarks/moe_sam_step.py).
         5. adapters, and the auxiliary embedding's last norm, start at zero: training begins at plain SAM
            (tests/parity/test_moe_sam_identity.py).
         6. the prompt generator sees the enhanced embedding, as the paper has it, and trains
            (tests/contracts: the gradient audit).
         7. no IoU head: nothing reads it and no loss reaches it.
         8. the cross-entropy is over all classes, which exclude one another; the paper says 'binary'.
         9. the small backbone may have a convolutional stem whose finer maps join the mask features
            (tests/unit/models/test_moe_sam_tiny.py).
Shapes:  B images, n encoder layers, V encoder width, D decoder width, h w token grid, S side of the input, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.models.moe_sam.backbone import build_encoder, load_sam
from medmoe_cli.core.models.moe_sam.card import CARD
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.models.moe_sam.decoder import decode_classes, enlarged
from medmoe_cli.core.models.moe_sam.detail import DetailPath
from medmoe_cli.core.models.moe_sam.fusion import AddFusion, Fused, MoeFusion
from medmoe_cli.core.models.moe_sam.lpeg import PromptGenerator
from medmoe_cli.core.nn.channels import channel_mix
from medmoe_cli.core.nn.sam2d import SelfPromptEncoder, build_mask_decoder, normalise_pixels
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

_SAM_DECODER_MLP = 2048
_ENCODER_PARTS = ("image_encoder.", "channel_mix.")
_NEW_PARTS = ("feb.", "lpeg.", "detail.", "mask_decoder.", "prompt_encoder.")


class MoeSam(Segmenter):
    """MoE-SAM over a SAM of any size.

    Args:
        config: the `model` section.
        plan: the dataset's plan: input size, channels, classes, number of experts.
    """

    card = CARD

    def __init__(self, config: MoeSamConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.input_size = plan.input_size
        self.channel_mix = channel_mix(
            plan.input_channels, context_slices=plan.context_slices, projection=config.input_projection
        )
        self.image_encoder = build_encoder(config, image_size=plan.input_size)
        size, width, grid = self.image_encoder.size, self.image_encoder.neck_width, self.image_encoder.grid
        self.prompt_encoder = SelfPromptEncoder(width=width, grid=grid)
        self.mask_decoder = build_mask_decoder(
            width=width,
            num_masks=len(plan.labels) + 1,
            mlp_width=config.decoder_mlp if config.backbone == "tiny" else _SAM_DECODER_MLP,
            score_head=False,
        )
        self.feb = _fusion(config, plan, depth=size.depth, encoder_width=size.width, width=width)
        self.lpeg = None
        if config.lpeg:
            self.lpeg = PromptGenerator(width=width, inner=config.lpeg_width, pool=config.lpeg_pool)
        self.detail = None
        if self.image_encoder.stem is not None:
            stem_channels = self.image_encoder.stem.channels
            self.detail = DetailPath(width=width, stem_channels=stem_channels, channels=width // 8)

    @classmethod
    def build(
        cls,
        config: MoeSamConfig,
        plan: Plan,
        *,
        backbone: Mapping[str, Tensor] | None = None,
        restore: bool = False,
    ) -> MoeSam:
        """The model with its backbone's weights, or those of a trained MoE-SAM, and what does not train frozen.

        Args:
            config: the `model` section.
            plan: the dataset's plan.
            backbone: tensors by SAM's names.
            restore: trained weights follow; nothing is read here either way.

        Raises:
            ConfigError: config and plan do not go together.
            CheckpointError: the backbone's tensors do not fit.
        """
        model = cls(config, plan)
        if backbone is not None:
            model.backbone_report = load_sam(model, backbone, name=config.backbone_weights or config.backbone)
        prefixes = model.stages()[0].trainable
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        return model

    def encode(self, images: Tensor) -> Features:
        """Encode images (B, channels, S, S) in [0, 1].

        The maps are 'embedding' (B, D, h, w); with a fusion 'layers' (B, n, h, w, V), all blocks' outputs; with a
        convolutional stem 'stem 1', 'stem 2', ..., its maps, finest first.
        """
        if self.channel_mix is not None:
            images = self.channel_mix(images)
        pixels = normalise_pixels(images) if self.config.normalise == "sam" else images.expand(-1, 3, -1, -1)
        encoding = self.image_encoder(pixels, all_blocks=self.feb is not None)
        maps = {"embedding": encoding.embedding}
        if self.feb is not None:
            maps["layers"] = torch.stack(encoding.blocks, dim=1)
        maps |= {f"stem {number}": stem for number, stem in enumerate(encoding.stem, start=1)}
        return Features(maps=maps, input_size=(self.input_size, self.input_size))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        """All classes of each query's image: logits (Q, C, S, S), background first, then in label order."""
        maps = self._maps(features)
        fused = None if self.feb is None else self.feb(maps["layers"])
        embedding_BDhw = maps["embedding"] if fused is None else maps["embedding"] + fused.auxiliary
        logits_BChw = decode_classes(
            self.mask_decoder,
            embedding_BDhw=embedding_BDhw,
            position_1Dhw=self.prompt_encoder.position(),
            sparse_BPD=self._sparse(embedding_BDhw),
            dense_1D11=self.prompt_encoder.dense(),
            detail=self.detail,
            stem_maps=tuple(tensor for name, tensor in maps.items() if name.startswith("stem ")),
        )
        return Output(
            logits=enlarged(logits_BChw.float(), self.input_size),
            routing={} if fused is None or fused.routing is None else {"feb": fused.routing},
        )

    def enhance(self, features: Features) -> Tensor:
        """The embedding (B, D, h, w) that the decoder sees: the encoder's and the auxiliary one."""
        maps = self._maps(features)
        return maps["embedding"] if self.feb is None else maps["embedding"] + self.feb(maps["layers"]).auxiliary

    def stages(self) -> tuple[Stage, ...]:
        """One stage: adapters, feature enhancing block, prompt generator, decoder, and the channels' map."""
        blocks = range(self.image_encoder.size.depth)
        adapters = tuple(f"image_encoder.blocks.{index}.adapter." for index in blocks)
        encoder = ("image_encoder.",) if self.config.train_encoder else adapters
        return (
            Stage(
                name="adapt",
                task="automatic",
                trainable=(*_NEW_PARTS, "channel_mix.", *encoder),
                losses=dict(self.config.loss_weights),
            ),
        )

    @torch.no_grad()
    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """Each layer's output, the embedding before and after fusion, and the attention of the fused features."""
        features = self.encode(images)
        maps = self._maps(features)
        shown: dict[str, Tensor] = {}
        fused: Fused | None = None
        if self.feb is not None:
            for number, layer_BhwV in enumerate(maps["layers"].unbind(dim=1), start=1):
                shown[f"layer {number}"] = layer_BhwV.permute(0, 3, 1, 2)
            fused = self.feb(maps["layers"])
        shown["embedding before fusion"] = maps["embedding"]
        if fused is not None:
            shown["after fusion"] = maps["embedding"] + fused.auxiliary
        if fused is not None and isinstance(self.feb, MoeFusion):
            shown["attention"] = self.feb.attention_picture(fused)
        return shown

    @property
    def mask_size(self) -> tuple[int, ...]:
        """Grid of SAM's masks, four times the embedding's."""
        return (4 * self.image_encoder.grid, 4 * self.image_encoder.grid)

    def encoder_prefixes(self) -> tuple[str, ...]:
        """Encoder with adapters, and the channels' map."""
        return _ENCODER_PARTS

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Adapters, feature enhancing block and prompt generator apart from SAM's own parts."""
        groups: dict[str, list[torch.nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            groups.setdefault(_group(name), []).append(parameter)
        return tuple(
            ParameterGroup(
                name=group,
                total=sum(one.numel() for one in members),
                trainable=sum(one.numel() for one in members if one.requires_grad),
            )
            for group, members in groups.items()
        )

    def _maps(self, features: Features) -> Mapping[str, Tensor]:
        """The features' maps in the model's precision; a feature cache may hold less."""
        dtype = self.mask_decoder.mask_tokens.weight.dtype
        return {name: tensor.to(dtype) for name, tensor in features.maps.items()}

    def _sparse(self, embedding_BDhw: Tensor) -> Tensor:
        if self.lpeg is not None:
            return self.lpeg(embedding_BDhw)
        return embedding_BDhw.new_zeros(embedding_BDhw.shape[0], 0, embedding_BDhw.shape[1])


def _fusion(
    config: MoeSamConfig, plan: Plan, *, depth: int, encoder_width: int, width: int
) -> MoeFusion | AddFusion | None:
    if config.fusion == "none":
        return None
    if config.fusion == "add":
        return AddFusion(encoder_width=encoder_width, width=width)
    num_active = config.num_active or (depth + 1) // 2
    if num_active > depth:
        raise ConfigError(
            f"experts cannot choose {num_active} of {depth} layers",
            where="model.num_active",
            fix=f"set model.num_active to {depth} or less",
        )
    return MoeFusion(
        encoder_width=encoder_width,
        width=width,
        num_experts=config.num_experts or plan.num_experts,
        num_active=num_active,
        hidden=config.expert_width or 4 * encoder_width,
        group=config.routing_group,
        residual=config.residual,
        noise=config.noise,
        norm=config.fusion_norm,
        attention=config.fusion_attention,
        num_heads=config.fusion_heads,
        attention_residual=config.attention_residual,
    )


def _group(name: str) -> str:
    if ".adapter." in name:
        return "adapters"
    parts = {
        "feb": "MoE-FEB",
        "lpeg": "LPEG",
        "detail": "detail",
        "mask_decoder": "mask decoder",
        "prompt_encoder": "prompt encoder",
    }
    return parts.get(name.split(".", 1)[0], "encoder")
