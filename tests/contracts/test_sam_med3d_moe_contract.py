"""SAM-Med3D-MoE keeps the contract in each role: general, with and without a convolutional stem, expert, and merged."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.sam3d import Sam3dParts
from medmoe_cli.core.nn.segmenter import Features, Prompts, Segmenter
from tests.contracts.segmenter_contract import SegmenterContract
from tests.tools.sam_med3d import (
    CONV,
    answered,
    mixed_volume_prompts,
    rows_of,
    small_expert,
    small_merged,
    small_model,
    volumes,
)


class _OneDecoder(SegmenterContract):
    """A general model or an expert: nothing is routed, so there is nothing to balance."""

    keys: dict[str, object] = {}  # noqa: RUF012

    def images(self) -> Tensor:
        return volumes()

    def prompts(self) -> tuple[Prompts, Tensor]:
        return mixed_volume_prompts(names=False)

    def routers_answer_to(self) -> dict[str, tuple[Features, Prompts]]:
        return {}

    def balance_at(self, *, intended: bool) -> dict[str, float]:
        return {}

    def test_routers_respond_to_each_input(self) -> None:
        segmenter = self.build().eval()
        with torch.no_grad():
            assert segmenter.decode(*self.encoded(segmenter)).routing == {}

    def test_balance_losses_are_least_as_intended(self) -> None:
        """Nothing is routed."""

    def test_balance_losses_move_the_routers(self) -> None:
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        assert segmenter.decode(*self.encoded(segmenter)).aux_losses == {}


class TestGeneral(_OneDecoder):
    """SAM-Med3D itself, trained whole."""

    keys_file = "sam_med3d_moe_general.json"

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_model(checkpoint_encoder=checkpointing, **self.keys)

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """The parts of nn/sam3d, put together by hand, one query after the other."""
        ours = small_model(**self.keys)
        parts = Sam3dParts(ours.image_encoder.size, image_size=32)
        parts.load_state_dict(ours.state_dict())
        prompts, image_Q = self.prompts()
        with torch.no_grad():
            base = torch.cat(
                [_plain(parts.eval(), self.images(), prompts, image_Q, row) for row in range(len(image_Q))]
            )
        return answered(ours, self.images(), prompts, image_Q).logits, base


class TestGeneralPublishedAxes(TestGeneral):
    """The same, on volumes turned to the public weights' orientation."""

    keys: dict[str, object] = {"axes": "published"}  # noqa: RUF012

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """Turning the volume and the prompts by hand, and the answer back, is the model that does not turn."""
        prompts, image_Q = self.prompts()
        plain, turning = small_model(), small_model(**self.keys)
        side = self.images().shape[-1]
        points = torch.stack([prompts.points[..., 2], side - prompts.points[..., 1], side - prompts.points[..., 0]], -1)
        low, high = prompts.boxes.split(3, dim=1)
        corners = torch.stack(
            [low[:, 2], side - high[:, 1], side - high[:, 0], high[:, 2], side - low[:, 1], side - low[:, 0]], 1
        )
        assert prompts.masks is not None
        turned = replace(
            prompts, points=points, boxes=corners, masks=prompts.masks.transpose(2, 4).flip(2).flip(3).contiguous()
        )
        base = answered(plain, self.images().transpose(2, 4).flip(2).flip(3), turned, image_Q).logits
        return answered(turning, self.images(), prompts, image_Q).logits, base.flip(2).flip(3).transpose(2, 4)


class TestGeneralStem(TestGeneral):
    """The small preset's own parts: stem, drawn prompts, a finer mask."""

    keys_file = "sam_med3d_moe_stem.json"
    keys: dict[str, object] = CONV

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """With the additions silenced what is left is SAM-Med3D's decoder behind the stem."""
        ours = small_model(**self.keys).eval()
        decoder = ours.mask_decoder
        prompts, image_Q = self.prompts()
        with torch.no_grad():
            for part in (
                decoder.detail_stem,
                decoder.detail_drawn,
                decoder.detail_mix[1],
                decoder.detail_head.layers[2],
            ):
                part.weight.zero_()
                part.bias.zero_()
            sparse, dense = ours.prompt_encoder(prompts.points, prompts.point_labels, prompts.boxes, prompts.masks)
            embedding = ours.image_encoder(self.images())[image_Q]
            positions = ours.prompt_encoder.dense_positions()
            base, _ = decoder(embedding, positions, sparse, dense, multimask=False)
        base = F.interpolate(base, size=(32,) * 3, mode="trilinear", align_corners=False)
        return answered(ours, self.images(), prompts, image_Q).logits, base


class TestExpert(_OneDecoder):
    """A copy of the decoder with query tokens, over a frozen encoder and prompt encoder."""

    keys_file = "sam_med3d_moe_expert.json"

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_expert(small_model(**self.keys), checkpoint_encoder=checkpointing)

    def prompts(self) -> tuple[Prompts, Tensor]:
        return mixed_volume_prompts(names=True)

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """Untrained, an expert is its general model."""
        general = small_model(seed=4, **self.keys)
        prompts, image_Q = mixed_volume_prompts(names=False)
        expert = small_expert(general)
        ours = answered(expert, self.images(), prompts, image_Q)
        return ours.logits, answered(general, self.images(), prompts, image_Q).logits


class TestExpertStem(TestExpert):
    """The small preset's."""

    keys_file = "sam_med3d_moe_expert_stem.json"
    keys: dict[str, object] = CONV


class TestMerged(SegmenterContract):
    """A general model, two experts and a gate that is always open, so that the fused masks reach it."""

    keys_file = "sam_med3d_moe_merged.json"
    keys: dict[str, object] = {"tau": 0.0}  # noqa: RUF012

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_merged(checkpoint_encoder=checkpointing, **self.keys)

    def images(self) -> Tensor:
        return volumes()

    def prompts(self) -> tuple[Prompts, Tensor]:
        return mixed_volume_prompts(names=True)

    def routers_answer_to(self) -> dict[str, tuple[Features, Prompts]]:
        segmenter = self.build().eval()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            _, image_Q = self.prompts()
            other_images = segmenter.encode(self.images().flip(0)).take(image_Q)
        assert prompts.masks is not None
        return {
            "image": (other_images, prompts),
            "point": (features, replace(prompts, points=prompts.points + 7)),
            "point label": (features, replace(prompts, point_labels=prompts.point_labels.clamp(max=0))),
            "box": (features, replace(prompts, boxes=prompts.boxes + 3)),
            "mask": (features, replace(prompts, masks=-prompts.masks)),
        }

    def balance_at(self, *, intended: bool) -> dict[str, float]:
        """What keeps the routing right is the cross-entropy on which expert owns the sample."""
        owner = torch.arange(6) % 3
        chosen = owner if intended else torch.zeros(6, dtype=torch.long)
        return {"owner": float(F.cross_entropy(10 * F.one_hot(chosen, 3).float(), owner))}

    def test_balance_losses_move_the_routers(self) -> None:
        segmenter = self.build()
        stage = segmenter.stages()[0]
        assert stage.losses["owner"] > 0
        self.prepared(segmenter, stage)
        features, prompts = self.encoded(segmenter)
        asked = torch.arange(6)
        output = segmenter.decode(features.take(asked), rows_of(prompts, asked))
        F.cross_entropy(output.routing["gate"].logits, torch.arange(6) % 3).backward()
        trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None for parameter in trained)
        assert max(float(parameter.grad.abs().max()) for parameter in trained if parameter.grad is not None) > 0

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """With a threshold that nothing exceeds, a merged model is its general model."""
        merged = small_merged(**{**self.keys, "tau": 1.0})
        prompts, image_Q = mixed_volume_prompts(names=False)
        general = small_model(**{**self.keys, "tau": 1.0})
        general.load_state_dict({name: merged.state_dict()[name] for name in general.state_dict()})
        ours = answered(merged, self.images(), prompts, image_Q).logits
        base = answered(general, self.images(), prompts, image_Q).logits
        assert torch.equal(ours, base), "to the last bit"
        return ours, base


class TestMergedStem(TestMerged):
    """The small preset's, with the other readings of the paper."""

    keys_file = "sam_med3d_moe_merged_stem.json"
    keys: dict[str, object] = {  # noqa: RUF012
        **CONV,
        "tau": 0.0,
        "fuse": "probabilities",
        "gate_activation": "sigmoid",
        "gate_pooling": "max",
        "gate_width": 16,
    }


def test_a_general_model_has_the_public_names() -> None:
    model = small_model()
    parts = Sam3dParts(model.image_encoder.size, image_size=32)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        name: tensor.shape for name, tensor in parts.state_dict().items()
    }


def _plain(parts: Sam3dParts, images: Tensor, prompts: Prompts, image_Q: Tensor, row: int) -> Tensor:
    """One query without any neighbour, padding or batching, (1, 1, S, S, S)."""
    used = prompts.point_labels[row] != -1
    assert prompts.masks is not None
    mask = prompts.masks[row][None] if bool(prompts.has_mask[row]) else torch.zeros_like(prompts.masks[:1])
    sparse, dense = parts.prompt_encoder(
        prompts.points[row][used][None], prompts.point_labels[row][used][None], prompts.boxes[row][None], mask
    )
    embedding = parts.image_encoder(images[image_Q[row]][None])
    positions = parts.prompt_encoder.dense_positions()
    low, _ = parts.mask_decoder(embedding, positions, sparse, dense, multimask=False)
    return F.interpolate(low, size=images.shape[2:], mode="trilinear", align_corners=False)


def test_the_model_is_a_segmenter() -> None:
    assert issubclass(SamMed3dMoe, Segmenter)
