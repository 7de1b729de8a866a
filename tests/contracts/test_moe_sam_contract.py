"""MoE-SAM keeps the contract: adapters in a frozen encoder as in the paper, and the small model from scratch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medmoe_cli.core.nn.sam2d import normalise_pixels
from medmoe_cli.core.nn.segmenter import Features, Prompts, Segmenter
from tests.contracts.segmenter_contract import SegmenterContract
from tests.tools.moe_sam import TINY, nothing, plain_encoder, small_images, small_moe_sam


class TestMoeSamAdapted(SegmenterContract):
    """Section 2: the encoder stays as it is; adapters, feature block, prompt generator and decoder train."""

    keys_file = "moe_sam_adapted.json"
    num_images = 3
    keys: dict[str, object] = {}  # noqa: RUF012

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_moe_sam(awake=True, checkpoint_encoder=checkpointing, **self.keys)

    def images(self) -> Tensor:
        return small_images(3)

    def prompts(self) -> tuple[Prompts, Tensor]:
        return nothing(3), torch.arange(3)

    def routers_answer_to(self) -> dict[str, tuple[Features, Prompts]]:
        segmenter = self.build().eval()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            others = segmenter.encode(self.images().flip(0))
            changed: dict[str, tuple[Features, Prompts]] = {"image": (others, prompts)}
            layers = features.maps["layers"]
            for index in range(layers.shape[1]):
                one = layers.clone()
                one[:, index] = one[:, index].flip(-1)
                changed[f"layer {index + 1}"] = (replace(features, maps={**features.maps, "layers": one}), prompts)
        return changed

    def balance_at(self, *, intended: bool) -> dict[str, float]:
        raise AssertionError("experts that choose have no balance loss")

    def test_balance_losses_are_least_as_intended(self) -> None:
        """There are none: every expert chooses as many, whatever the router thinks of the layers."""
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        with torch.no_grad():
            segmenter.get_parameter("feb.router.gate.weight").mul_(100)
        output = segmenter.decode(*self.encoded(segmenter))
        assert output.aux_losses == {}
        load = output.routing["feb"].load
        assert bool((load == load[0]).all())
        assert float(load[0]) > 0

    def test_balance_losses_move_the_routers(self) -> None:
        """There are none, so the task alone must move them."""
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        output = segmenter.decode(*self.encoded(segmenter))
        gate = segmenter.get_parameter("feb.router.gate.weight")
        (gradient,) = torch.autograd.grad(self.loss(output), gate)
        assert float(gradient.abs().max()) > 0

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """Before training the decoder sees plain SAM's embedding."""
        segmenter = small_moe_sam(**self.keys).eval()
        with torch.no_grad():
            ours = segmenter.enhance(segmenter.encode(self.images()))
            base = plain_encoder(segmenter)(normalise_pixels(self.images()))
        return ours, base


class TestMoeSamCodeLike(TestMoeSamAdapted):
    """The public code's choices: an image's tokens are chosen from, attention over all layers; LoRA instead."""

    keys_file = "moe_sam_code_like.json"
    keys: dict[str, object] = {  # noqa: RUF012
        "adapter": "lora",
        "routing_group": "image",
        "fusion_attention": "all_layers",
        "attention_residual": False,
        "lpeg_pool": 2,
    }


class TestMoeSamTiny(TestMoeSamAdapted):
    """The small preset: everything trains, a convolutional stem."""

    keys_file = "moe_sam_tiny.json"
    keys: dict[str, object] = TINY

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """The base is the same model without the feature enhancing block."""
        fresh = small_moe_sam(**self.keys).eval()
        plain = small_moe_sam(**{**self.keys, "fusion": "none"}).eval()
        plain.load_state_dict({name: one for name, one in fresh.state_dict().items() if not name.startswith("feb.")})
        with torch.no_grad():
            answers = [one.decode(one.encode(self.images()), nothing(3)).logits for one in (fresh, plain)]
        return answers[0], answers[1]
