"""SegMoTE: SAM with routed expert tokens in its mask decoder, and a learned prompt for images of one class.

Paper:   SegMoTE: Token-Level Mixture of Experts for Medical Image Segmentation, CVPR 2026 (sections 3 and 4)
Code:    InMyDreammer/SegMoTE, read as evidence for what the paper leaves open; no line is copied
Differs: 1. gates are a softmax over the experts (eq. 5 and 7 agree only so), straight-through, so that the router
            learns although one expert is used (tests/contracts: the gradient audit).
         2. experts are non-linear, D to 64 to D, with a residual; the public code's are linear without one
            (tests/unit/models/test_mote.py).
         3. the token is chosen by the last layer's confidence as in the paper, but weighed straight-through, and the
            tokens' use is balanced like the experts': else one token takes all (tests/unit/models/test_mote.py).
         4. both layers' balance losses count, importance is summed over images and tokens as in eq. 7
            (tests/contracts: balance losses are least as intended).
         5. the score is predicted from the chosen expert token, not from SAM's IoU token
            (tests/unit/models/test_segmote_model.py).
         6. unused prompt slots are masked out of all attention, so that an answer depends on its own prompt alone;
            `isolate_experts` keeps plain SAM's masks within reach (tests/contracts: batch, padding, base model).
         7. a query without point and box has the tokenizer's tokens in training and in prediction alike; others never
            (tests/unit/models/test_ppt.py).
         8. the small backbone has additions of its own, all off by default: a convolutional stem, drawn prompts and a
            second look at the answer's region (tests/unit/models/test_segmote_guidance.py, test_segmote_region.py).
Shapes:  B images, Q queries, D decoder width, h w the embedding's grid; low-resolution masks are 4h x 4w.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.models.segmote.answer import Answer, DrawnPrior
from medmoe_cli.core.models.segmote.backbone import build_encoder
from medmoe_cli.core.models.segmote.card import CARD
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.decoder import Decoded, decode_masks
from medmoe_cli.core.models.segmote.guidance import draw, grid_coordinates, previous_mask
from medmoe_cli.core.models.segmote.mote import Mote, balance_losses
from medmoe_cli.core.models.segmote.ppt import PromptTokenizer
from medmoe_cli.core.models.segmote.prompting import encode_prompts
from medmoe_cli.core.models.segmote.region import RegionRefiner
from medmoe_cli.core.models.segmote.stages import ENCODER_PARTS, training_stages
from medmoe_cli.core.models.segmote.text import ClipText, build_text, clip_features
from medmoe_cli.core.models.segmote.tiny import FINE_WIDTH, STEM_WIDTHS
from medmoe_cli.core.nn.channels import channel_mix
from medmoe_cli.core.nn.sam2d import build_mask_decoder, build_prompt_encoder, load_start, normalise_pixels
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, PromptKind, Prompts, Segmenter, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class SamMasks:
    """Masks of SAM's own tokens: logits (Q, 4, H, W) at the input size, the single-mask one first, and IoU (Q, 4)."""

    logits: Tensor
    scores: Tensor


class Segmote(Segmenter):
    """SegMoTE over a SAM of any size.

    Args:
        config: the `model` section.
        plan: the dataset's plan: input size, channels, class names, whether it has one class.
    """

    card = CARD

    def __init__(self, config: SegmoteConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.class_names = plan.class_names
        self.input_size = plan.input_size
        num_experts = config.num_experts or plan.num_experts
        if config.top_k > num_experts:
            raise ConfigError(
                f"top_k {config.top_k} is more than the {num_experts} experts",
                where="model.top_k",
                fix=f"set model.top_k to {num_experts} or less, or model.num_experts to {config.top_k} or more",
            )
        self.channel_mix = channel_mix(plan.input_channels, context_slices=plan.context_slices)
        self.image_encoder = build_encoder(config, image_size=plan.input_size)
        width, grid = self.image_encoder.neck_width, self.image_encoder.grid
        self.prompt_encoder = build_prompt_encoder(width=width, image_size=plan.input_size, grid=grid)
        self.mask_decoder = build_mask_decoder(width=width)
        self.mote = Mote(
            width=width,
            num_layers=len(self.mask_decoder.transformer.layers),
            num_tokens=config.num_tokens or plan.num_experts,
            num_experts=num_experts,
            top_k=config.top_k,
            expert_width=config.expert_width,
            shared_tail=config.expert_tail == "shared",
            encoder_width=self.image_encoder.size.width if config.high_res_features else None,
            stem_width=STEM_WIDTHS[1] if config.stem == "conv" else None,
            guided=config.draw_prompts,
        )
        self.answer = Answer(
            input_size=plan.input_size,
            prior=DrawnPrior() if config.draw_prompts else None,
            region=self._region(width) if config.region_refinement else None,
        )
        self.score_head = MLP(width, 256, 1, 3)
        has_ppt = plan.binary if config.ppt == "auto" else config.ppt == "on"
        self.ppt = PromptTokenizer(width=width, num_queries=config.ppt_queries, grid=(grid, grid)) if has_ppt else None
        self.text = build_text(
            config.text, num_classes=len(plan.class_names), width=width, clip_width=config.clip_width
        )

    @classmethod
    def build(
        cls,
        config: SegmoteConfig,
        plan: Plan,
        *,
        backbone: Mapping[str, Tensor] | None = None,
        restore: bool = False,
    ) -> Segmote:
        """The model with its backbone's weights, or those of a trained SegMoTE, and what does not train frozen.

        Raises:
            ConfigError: config and plan do not go together.
            CheckpointError: the backbone's tensors or the CLIP folder do not fit.
        """
        model = cls(config, plan)
        if backbone is not None:
            name = config.backbone_weights or config.backbone
            model.backbone_report = load_start(model, backbone, name=name)
            decoder = model.mask_decoder
            if "mote.tokens" not in model.backbone_report.loaded:
                model.mote.start_from_sam(decoder.mask_tokens.weight[0], decoder.output_hypernetworks_mlps[0])
        if isinstance(model.text, ClipText) and not restore:
            assert config.clip_path is not None
            texts = [plan.class_prompts.get(name, name) for name in plan.class_names]
            features = clip_features(Path(config.clip_path), texts)
            if features.shape != model.text.features.shape:
                raise ConfigError(
                    f"CLIP's text features have {features.shape[1]} channels",
                    where=config.clip_path,
                    why=f"model.clip_width is {model.text.features.shape[1]}",
                    fix=f"set model.clip_width to {features.shape[1]}",
                )
            model.text.features.copy_(features)
        prefixes = model.stages()[0].trainable
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        return model

    def encode(self, images: Tensor) -> Features:
        """Encode images (B, channels, H, W) in [0, 1].

        The maps are 'embedding' (B, D, h, w) and 'early' (B, V, h, w), what a frozen encoder's cache holds. When the
        encoder trains, 'detail' (B, C, 4h, 4w) takes the place of 'early': the image's part of the high-resolution
        features, made once per image instead of once per query. A convolutional stem adds its own output to these, a
        second look 'fine' (B, F, S/2, S/2) and 'pixels' (B, 3, S, S).
        """
        if self.channel_mix is not None:
            images = self.channel_mix(images)
        pixels = normalise_pixels(images)
        encoding = self.image_encoder(pixels)
        maps = {"embedding": encoding.embedding}
        if self.config.region_refinement:
            maps |= {"fine": encoding.fine, "pixels": pixels.expand(-1, 3, -1, -1)}
        if self.config.high_res_features:
            parts = {"early": encoding.early, **({"stem": encoding.stem} if self.config.stem == "conv" else {})}
            maps |= {"detail": self._detail(encoding.embedding, parts)} if self.config.train_encoder else parts
        return Features(maps=maps, input_size=(self.input_size, self.input_size))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        """Answer Q queries of any mix of prompt kinds."""
        maps = self._maps(features)
        decoded = self._decode(maps, prompts)
        masks = self.answer(decoded, prompts, maps)
        aux: dict[str, Tensor] = {}
        if self.mote.training:
            aux = balance_losses(
                decoded.routing,
                decoded.choice,
                expert_weight=self.config.balance_weight,
                token_weight=self.config.token_balance_weight,
            )
        return Output(
            logits=masks.logits,
            low_res_logits=masks.low_res_logits,
            scores=self.score_head(decoded.token)[:, 0].sigmoid(),
            views=masks.views if self.training else (),
            aux_losses=aux,
            routing={**decoded.routing, "token": decoded.choice},
            heat=decoded.heat,
        )

    def sam_masks(self, features: Features, prompts: Prompts) -> SamMasks:
        """The masks of SAM's own tokens: plain SAM's (to 1e-5) when the model has `isolate_experts`."""
        decoded = self._decode(self._maps(features), prompts, return_sam_masks=True)
        assert decoded.sam_masks is not None
        assert decoded.sam_scores is not None
        return SamMasks(logits=self.answer.enlarge(decoded.sam_masks), scores=decoded.sam_scores)

    def stages(self) -> tuple[Stage, ...]:
        """One stage; see `stages.training_stages`."""
        return training_stages(
            self.config,
            has_ppt=self.ppt is not None,
            has_text=self.text is not None,
            learns_channels=self.channel_mix is not None,
        )

    @property
    def prompt_kinds(self) -> frozenset[PromptKind]:
        """Point, box and mask; text with an embedding of the class names, none with the progressive tokenization."""
        missing = {kind for kind, part in (("text", self.text), ("none", self.ppt)) if part is None}
        return frozenset(kind for kind in super().prompt_kinds if kind not in missing)

    @property
    def mask_size(self) -> tuple[int, ...]:
        """Grid of the low-resolution masks, four times the embedding's."""
        return (4 * self.image_encoder.grid, 4 * self.image_encoder.grid)

    def encoder_prefixes(self) -> tuple[str, ...]:
        """What `encode` uses; with a training encoder also the image's part of the high-resolution features."""
        names = ("embedding", "early", "stem")
        detail = tuple(f"mote.high_resolution.{name}." for name in names)
        return ENCODER_PARTS + (detail if self.config.train_encoder else ())

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Parts as in the paper's table 3: MoTE (tokens, routed layers, heads, features) and PPT apart."""
        groups = {
            "encoder": ENCODER_PARTS,
            "prompt encoder": ("prompt_encoder.",),
            "mask decoder": ("mask_decoder.",),
            "MoTE": ("mote.",),
            "PPT": ("ppt.",),
            "text": ("text.",),
            "score head": ("score_head.",),
            "refinement": ("answer.",),
        }
        counted = []
        for group, prefixes in groups.items():
            members = [parameter for name, parameter in self.named_parameters() if name.startswith(prefixes)]
            if members:
                total = sum(parameter.numel() for parameter in members)
                trainable = sum(parameter.numel() for parameter in members if parameter.requires_grad)
                counted.append(ParameterGroup(name=group, total=total, trainable=trainable))
        return tuple(counted)

    def _maps(self, features: Features) -> Mapping[str, Tensor]:
        """The features' maps in the model's precision; a feature cache may hold less."""
        return {name: tensor.to(self.mote.tokens.dtype) for name, tensor in features.maps.items()}

    def _decode(self, maps: Mapping[str, Tensor], prompts: Prompts, *, return_sam_masks: bool = False) -> Decoded:
        embedding_QDhw = maps["embedding"]
        detail = maps.get("detail")
        if detail is None and "early" in maps:
            detail = self._detail(embedding_QDhw, maps)
        drawn = None
        if self.config.draw_prompts:
            x, y = grid_coordinates(self.mask_size[0], input_size=self.input_size, like=prompts.boxes)
            maps_QMhw = draw(prompts, x, y, input_size=self.input_size)
            drawn = torch.cat([maps_QMhw, previous_mask(prompts, like=maps_QMhw)], dim=1)
        encoded = encode_prompts(
            prompts,
            prompt_encoder=self.prompt_encoder,
            text=self.text,
            tokenizer=self.ppt,
            embedding_QDhw=embedding_QDhw,
            draw_boxes=self.config.draw_prompts,
        )
        return decode_masks(
            self.mask_decoder,
            self.mote,
            embedding_QDhw=embedding_QDhw,
            position_1Dhw=self.prompt_encoder.get_dense_pe(),
            prompts=encoded,
            image_features_QChw=detail,
            drawn_QMhw=drawn,
            isolate=self.config.isolate_experts,
            return_sam_masks=return_sam_masks,
        )

    def _detail(self, embedding: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
        assert self.mote.high_resolution is not None
        return self.mote.high_resolution.image(embedding, maps["early"], maps.get("stem"))

    def _region(self, width: int) -> RegionRefiner:
        return RegionRefiner(
            width=width,
            num_tokens=self.mote.num_tokens,
            mask_channels=width // 8,
            fine_channels=FINE_WIDTH,
            size=self.config.region_size,
            margin=self.config.region_margin,
            contrast=self.config.region_contrast,
        )
