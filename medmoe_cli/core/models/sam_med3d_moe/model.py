"""SAM-Med3D-MoE: one 3D encoder, a general mask decoder, decoders for specific tasks, and a gate that calls them.

Paper:   SAM-Med3D-MoE, MICCAI 2024 (section 2); SAM-Med3D, arXiv:2310.15161
Code:    none was published; SAM-Med3D's is uni-medical/SAM-Med3D (nn/sam3d)
Differs: 1. the gate has m + 1 answers, the first for 'general' (gate.py).
         2. each expert owns a learned query token per class, trained by leaving prompts out, so that it answers scans
            without prompts; a query that names an expert's class is answered by that expert alone
            (tests/unit/models/test_sam_med3d_experts.py).
         3. the prompt encoder has embeddings for the corners of a box, which the public code lacks (nn/sam3d).
         4. models on the public weights see volumes in those weights' orientation (axes.py).
         5. the small backbone may have a convolutional stem and drawn prompts, off by default (encoder.py, decoder.py).
Shapes:  B volumes, Q queries, C decoder width, m experts, S side of the input cube; a volume's axes are (z, y, x) and
         prompts are (x, y, z); low-resolution masks have four cells per side of an embedding's cell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.models.sam_med3d_moe.asking import Asked, ClassOwners, first_prompts, lacks_prompt
from medmoe_cli.core.models.sam_med3d_moe.axes import from_published, prompts_to_published, to_published
from medmoe_cli.core.models.sam_med3d_moe.backbone import load_parts
from medmoe_cli.core.models.sam_med3d_moe.card import CARD
from medmoe_cli.core.models.sam_med3d_moe.config import ExpertEntry, SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.decoder import Detail, DetailDecoder, enlarge
from medmoe_cli.core.models.sam_med3d_moe.encoder import StemEncoder, build_encoder, model_size
from medmoe_cli.core.models.sam_med3d_moe.fusion import fuse_masks
from medmoe_cli.core.models.sam_med3d_moe.gate import Gate, named_routing, select
from medmoe_cli.core.models.sam_med3d_moe.guidance import draw
from medmoe_cli.core.models.sam_med3d_moe.stages import ENCODER, training_stage
from medmoe_cli.core.nn.moe import Routing
from medmoe_cli.core.nn.sam3d import MaskDecoder3d, PromptEncoder3d, PromptTokens, Sam3dSize
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, PromptKind, Prompts, Segmenter, Stage


class Expert(nn.Module):
    """What a specific expert owns: its mask decoder and a query token per class, (classes, C)."""

    def __init__(self, mask_decoder: MaskDecoder3d, *, num_classes: int, width: int) -> None:
        super().__init__()
        self.mask_decoder = mask_decoder
        self.query_tokens = nn.Parameter(torch.randn(num_classes, width))


class SamMed3dMoe(Segmenter):
    """A general model, an expert, or a merged model, as the config's role says.

    Args:
        config: the `model` section.
        plan: the dataset's plan: input size, one channel, class names.
        loaded: role merged: indices of the experts whose decoders are in memory; None for all. While the gate trains,
            a query that opens another expert keeps the general decoder's answer.

    Raises:
        ConfigError: config and plan do not go together.
    """

    card = CARD

    def __init__(self, config: SamMed3dMoeConfig, plan: Plan, *, loaded: Collection[int] | None = None) -> None:
        super().__init__()
        _check(config, plan)
        self.config = config
        self.input_size = plan.input_size
        size = model_size(config, image_size=plan.input_size)
        self.image_encoder = build_encoder(config, size, image_size=plan.input_size)
        self.prompt_encoder = PromptEncoder3d(size, image_size=plan.input_size)
        self.mask_decoder = _decoder(config, size)
        entries = config.experts
        if config.role == "expert":
            entries = (ExpertEntry(name=plan.dataset or "expert", classes=plan.class_names),)
            self.query_tokens = nn.Parameter(torch.randn(len(plan.class_names), size.neck_width))
        if config.role == "merged":
            self.gate = Gate(
                size.neck_width,
                num_experts=len(entries),
                hidden=config.gate_width or size.neck_width,
                heads=config.gate_heads,
                mlp=config.gate_mlp,
                pooling=config.gate_pooling,
            )
            self.experts = nn.ModuleDict(
                {
                    str(index): Expert(_decoder(config, size), num_classes=len(entry.classes), width=size.neck_width)
                    for index, entry in enumerate(entries)
                    if loaded is None or index in loaded
                }
            )
        self.owners = ClassOwners(plan.class_names, entries)

    @classmethod
    def build(
        cls,
        config: SamMed3dMoeConfig,
        plan: Plan,
        *,
        backbone: Mapping[str, Tensor] | None = None,
        restore: bool = False,
        loaded: Collection[int] | None = None,
    ) -> SamMed3dMoe:
        """The model, with the weights of a backbone or of an expert's general model, and what does not train frozen.

        Raises:
            ConfigError: config and plan do not go together.
            CheckpointError: the tensors do not fit.
        """
        model = cls(config, plan, loaded=loaded)
        if backbone is not None and not restore:
            load_parts(model, backbone, name=config.backbone_weights or config.backbone)
        prefixes = model.stages()[0].trainable
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        return model

    def encode(self, images: Tensor) -> Features:
        """Encode normalised volumes (B, 1, S, S, S), axes (z, y, x).

        The maps are 'embedding' (B, C, s, s, s); with a convolutional stem also 'stem1' and 'stem2', at the input's
        resolution and at half of it.
        """
        volumes = to_published(images) if self.config.published_axes else images
        encoder = self.image_encoder
        maps = encoder.maps(volumes) if isinstance(encoder, StemEncoder) else {"embedding": encoder(volumes)}
        return Features(maps=maps, input_size=(self.input_size,) * 3)

    def decode(self, features: Features, prompts: Prompts) -> Output:
        """Answer Q queries of any mix of prompt kinds.

        Raises:
            ConfigError: a query comes without prompt, and names no class of an expert.
        """
        expert_Q, row_Q = self.owners.named(prompts)
        self._refuse_unprompted(lacks_prompt(prompts) & (expert_Q < 0), prompts)
        if self.config.published_axes:
            prompts = prompts_to_published(prompts, side=self.input_size)
        asked = self._ask(features, prompts)
        routing: dict[str, Routing] = {}
        if self.config.role == "merged":
            routing["gate"] = self._route(asked, prompts, expert_Q)
            logits = self._fused(asked, routing["gate"], expert_Q, row_Q)
        else:
            if self.config.role == "expert":
                asked = asked.with_token(self.query_tokens[row_Q], expert_Q >= 0)
            logits = asked.answered_by(self.mask_decoder)
        low_res = logits
        if logits.shape[-1] != self.mask_size[0]:
            low_res = F.adaptive_avg_pool3d(logits, self.mask_size[0])
        logits = enlarge(logits, self.input_size)
        if self.config.published_axes:
            logits, low_res = from_published(logits), from_published(low_res)
        return Output(logits=logits, low_res_logits=low_res, routing=routing)

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """The image embedding, and the finer maps of a convolutional stem; axes (z, y, x)."""
        maps = self.encode(images).maps
        names = {"stem1": "first convolutions", "stem2": "second convolutions", "embedding": "image embedding"}
        return {
            name: from_published(maps[key]) if self.config.published_axes else maps[key]
            for key, name in names.items()
            if key in maps
        }

    def stages(self) -> tuple[Stage, ...]:
        """One stage, of the config's role; see `stages.training_stage`."""
        return (training_stage(self.config, binary=len(self.owners.class_names) == 1),)

    def promptable_classes(self) -> tuple[str, ...]:
        """Class names that may be asked for without a prompt: those that an expert has a query token for."""
        return self.owners.promptable

    @property
    def prompt_kinds(self) -> frozenset[PromptKind]:
        """Point, box and mask; text where experts have classes; none where the one class there is has an expert."""
        kinds = super().prompt_kinds
        if not self.owners.promptable:
            kinds -= {"text"}
        return kinds if self.owners.answers_nothing else kinds - {"none"}

    @property
    def mask_size(self) -> tuple[int, ...]:
        """Grid of the low-resolution masks, four times the embedding's."""
        return self.prompt_encoder.mask_size

    def encoder_prefixes(self) -> tuple[str, ...]:
        """What `encode` uses."""
        return (ENCODER,)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Encoder, prompt encoder, general decoder, the experts by name, and the gate."""
        decoder = "expert" if self.config.role == "expert" else "general decoder"
        groups: dict[str, tuple[str, ...]] = {
            "encoder": (ENCODER,),
            "prompt encoder": ("prompt_encoder.",),
            decoder: ("mask_decoder.", "query_tokens"),
        }
        for index, entry in enumerate(self.config.experts):
            groups[f"expert {entry.name}"] = (f"experts.{index}.",)
        groups["gate"] = ("gate.",)
        counted = []
        for name, prefixes in groups.items():
            members = [parameter for key, parameter in self.named_parameters() if key.startswith(prefixes)]
            if members:
                total = sum(parameter.numel() for parameter in members)
                trainable = sum(parameter.numel() for parameter in members if parameter.requires_grad)
                counted.append(ParameterGroup(name=name, total=total, trainable=trainable))
        return tuple(counted)

    def _ask(self, features: Features, prompts: Prompts) -> Asked:
        # A feature cache may hold less than the model's precision.
        dtype = self.prompt_encoder.not_a_point_embed.weight.dtype
        maps = {name: tensor.to(dtype) for name, tensor in features.maps.items()}
        masks = prompts.masks
        if masks is not None:  # a mask prompt is always given, zeros where there is none
            masks = masks * prompts.has_mask[:, None, None, None, None]
        sparse, dense = self.prompt_encoder(prompts.points, prompts.point_labels, prompts.boxes, masks)
        detail = None
        if isinstance(self.mask_decoder, DetailDecoder):
            drawn = draw(prompts, grid=self.mask_size[0], side=self.input_size) if self.config.draw_prompts else None
            detail = Detail(at1=maps["stem1"], at2=maps["stem2"], drawn=drawn)
        return Asked(
            embedding=maps["embedding"],
            positions=self.prompt_encoder.dense_positions(),
            sparse=sparse,
            dense=dense,
            detail=detail,
        )

    def _route(self, asked: Asked, prompts: Prompts, expert_Q: Tensor) -> Routing:
        """Ask the gate about the queries that name no expert's class."""
        rows = (expert_Q < 0).nonzero()[:, 0]
        logits = asked.embedding.new_zeros(0, len(self.config.experts) + 1)
        if len(rows):
            sparse, dense = asked.sparse, asked.dense
            if self.config.gate_freeze_after is not None:
                first = first_prompts(prompts, self.config.gate_freeze_after)
                sparse, dense = self.prompt_encoder(first.points, first.point_labels, first.boxes, None)
            # A query with a mask alone has no token; SAM's padding point stands in, so that there is one to attend to.
            padding_Q1C = self.prompt_encoder.not_a_point_embed.weight.expand(len(expert_Q), 1, -1)
            tokens = sparse.append(padding_Q1C, ~sparse.used.any(1, keepdim=True))
            tokens = PromptTokens(values=tokens.values[rows], used=tokens.used[rows])
            logits = self.gate((asked.embedding + dense)[rows], asked.positions, tokens)
        routing = select(logits, tau=self.config.tau, activation=self.config.gate_activation)
        if len(rows) == len(expert_Q):
            return routing
        return named_routing(routing, rows_N=rows, expert_Q=expert_Q)

    def _fused(self, asked: Asked, routing: Routing, expert_Q: Tensor, row_Q: Tensor) -> Tensor:
        """The general decoder where no class is named, and each opened expert for its own queries alone."""
        opened_Q = routing.gates[:, 1] > 0
        gated = (expert_Q < 0).nonzero()[:, 0]
        answers: Tensor | None = None
        if len(gated):
            whole = len(gated) == len(expert_Q)
            general = (asked if whole else asked.rows(gated)).answered_by(self.mask_decoder)
            # A factor of one that ties every answer to the gate: distributed training waits for its gradient.
            tie = torch.where(opened_Q, torch.ones_like(routing.gates[:, 0]), routing.gates[:, 0])[gated]
            general = general * tie[:, None, None, None, None]
            answers = general.new_zeros(len(expert_Q), *general.shape[1:]).index_copy(0, gated, general)
        for index in range(len(self.config.experts)):
            rows = (opened_Q & (routing.indices[:, 1] == index + 1)).nonzero()[:, 0]
            if not len(rows):
                continue
            named = expert_Q[rows] >= 0
            if str(index) not in self.experts:
                self._refuse_unloaded(index, may_be_left_out=self.gate.training and not bool(named.any()))
                continue
            expert = self.experts[str(index)]
            assert isinstance(expert, Expert)
            own = asked.rows(rows).with_token(expert.query_tokens[row_Q[rows]], named).answered_by(expert.mask_decoder)
            if answers is None:
                answers = own.new_zeros(len(expert_Q), *own.shape[1:])
            fused = fuse_masks(
                answers[rows], own, routing.gates[rows, 1], fuse=self.config.fuse, fusion=self.config.fusion
            )
            answers = answers.index_copy(0, rows, torch.where(named[:, None, None, None, None], own, fused))
        assert answers is not None
        return answers

    def _refuse_unprompted(self, refused_Q: Tensor, prompts: Prompts) -> None:
        if not bool(refused_Q.any()):
            return
        index = int(prompts.class_index[refused_Q][0])
        asked = f"class '{self.owners.class_names[index]}'" if index >= 0 else "a query without a class"
        raise ConfigError(
            f"{asked} needs a prompt",
            where=f"{self.config.role} model",
            why="only experts look for their classes without one"
            + (f": {', '.join(self.owners.promptable)}" if self.owners.promptable else ""),
            fix="give points or boxes with --prompts FILE, or name an expert's class with --text",
        )

    def _refuse_unloaded(self, index: int, *, may_be_left_out: bool) -> None:
        if not may_be_left_out:
            raise ConfigError(
                f"the decoder of expert '{self.config.experts[index].name}' is not loaded",
                why="the model was built to train its gate with some of its experts",
                fix="build it with all of them",
            )


def _decoder(config: SamMed3dMoeConfig, size: Sam3dSize) -> MaskDecoder3d:
    if config.stem == "conv":
        return DetailDecoder(size, channels=config.stem_channels, guided=config.draw_prompts)
    return MaskDecoder3d(size)


def _check(config: SamMed3dMoeConfig, plan: Plan) -> None:
    if plan.input_channels != 1:
        raise ConfigError(
            f"{plan.input_channels} channels",
            where="plan.channels",
            why="SAM-Med3D reads one",
            fix="make a dataset of one of the channels, or choose another --method",
        )
    strange = [name for entry in config.experts for name in entry.classes if name not in plan.labels]
    if strange:
        raise ConfigError(
            f"experts have classes that the plan lacks: {', '.join(strange)}",
            where="model.experts",
            fix="merge the experts again with medmoe merge-experts",
        )
