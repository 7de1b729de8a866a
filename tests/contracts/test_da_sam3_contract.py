"""DA-SAM3 keeps the contract: frozen as in the paper, with full experts, and small and trained from scratch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.da_sam3.model import balance_losses
from medmoe_cli.core.nn.moe import Routing, choose_experts
from medmoe_cli.core.nn.segmenter import Features, Prompts, Segmenter
from tests.contracts.segmenter_contract import SegmenterContract
from tests.tools.da_sam3 import ask, small_da_sam3, small_images


class TestDaSam3Frozen(SegmenterContract):
    """Section 2.1: experts, routers and norms of the fusion encoder train; then the routers alone."""

    keys_file = "da_sam3_frozen.json"
    keys: dict[str, object] = {"stem": "patch"}  # noqa: RUF012

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_da_sam3(learned=True, checkpoint_layers=checkpointing, **self.keys)

    def images(self) -> Tensor:
        return small_images()

    def prompts(self) -> tuple[Prompts, Tensor]:
        return ask(0, 1, 2, 0, 2), torch.tensor([0, 0, 1, 1, 0])

    def routers_answer_to(self) -> dict[str, tuple[Features, Prompts]]:
        segmenter = self.build().eval()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            _, image_Q = self.prompts()
            other_images = segmenter.encode(self.images().flip(0)).take(image_Q)
        return {
            "image": (other_images, prompts),
            "concept": (features, replace(prompts, class_index=(prompts.class_index + 1) % 3)),
        }

    def balance_at(self, *, intended: bool) -> dict[str, float]:
        # 64 tokens of four experts: spread and certain, or all with the same experts and hardly decided.
        best = torch.arange(64) % 4
        spread = 20 * F.one_hot(best, 4).float() + 10 * F.one_hot((best + 1) % 4, 4).float()
        same = torch.tensor([1.0, 0.9, 0.0, 0.0]).repeat(64, 1)
        layers: dict[str, Routing] = {
            name: choose_experts(spread if intended else same, num_active=2) for name in ("layer1", "layer2")
        }
        losses = balance_losses(layers, balance_weight=1.0, entropy_weight=1.0)
        return {name: float(loss) for name, loss in losses.items()}

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """With fresh experts the answer is the plain fusion encoder's: the same weights without experts."""
        fresh = small_da_sam3(learned=True, **self.keys).eval()
        plain = small_da_sam3(**{**self.keys, "experts": "none"}).eval()
        with torch.no_grad():
            for name, parameter in fresh.named_parameters():
                if name.endswith((".b_in", ".b_out")):
                    parameter.zero_()
            for name, tensor in plain.state_dict().items():
                tensor.copy_(fresh.state_dict()[name])
            return fresh.decode(*self.encoded(fresh)).logits, plain.decode(*self.encoded(plain)).logits


class TestDaSam3Tiny(TestDaSam3Frozen):
    """The small preset: a convolutional stem, and all of it trains."""

    keys_file = "da_sam3_tiny.json"
    keys: dict[str, object] = {"stem": "conv", "finest_stride": 1, "train_backbone": True}  # noqa: RUF012


class TestDaSam3FullExperts(TestDaSam3Frozen):
    """Table 2: full copies of the network, routed by the token alone (standard MoE)."""

    keys_file = "da_sam3_full.json"
    keys: dict[str, object] = {"stem": "patch", "experts": "full", "router": "token"}  # noqa: RUF012

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        model = super().build(checkpointing=checkpointing)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".experts." in name:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return model

    def step_zero(self) -> tuple[Tensor, Tensor]:
        fresh, plain = small_da_sam3(**self.keys).eval(), small_da_sam3(**{**self.keys, "experts": "none"}).eval()
        own = fresh.state_dict()
        with torch.no_grad():
            for name, tensor in plain.state_dict().items():
                tensor.copy_(own[name] if name in own else _first_expert(own, name))
            return fresh.decode(*self.encoded(fresh)).logits, plain.decode(*self.encoded(plain)).logits


class TestDaSam3Instances(TestDaSam3Frozen):
    """The mask as the union of SAM3's instances."""

    keys_file = "da_sam3_instances.json"
    keys: dict[str, object] = {"stem": "conv", "train_backbone": True, "output": "instances"}  # noqa: RUF012


def _first_expert(own: dict[str, Tensor], name: str) -> Tensor:
    """The base network's tensor that an expert began as."""
    layer, _, part = name.partition(".mlp.")
    new = {"fc1.weight": "weight_in", "fc1.bias": "bias_in", "fc2.weight": "weight_out", "fc2.bias": "bias_out"}[part]
    expert = own[f"{layer}.experts.{new}"][0]
    return expert.T if part.endswith("weight") else expert
