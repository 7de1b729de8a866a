"""SegMoTE keeps the contract: frozen as in the paper, and with encoder and decoder trained."""

from __future__ import annotations

from dataclasses import replace

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.models.segmote.mote import balance_losses, choose_token
from medmoe_cli.core.nn.moe import Routing, choose_experts
from medmoe_cli.core.nn.segmenter import Features, Prompts, Segmenter
from tests.contracts.segmenter_contract import SegmenterContract
from tests.tools.segmote import mixed_prompts, small_images, small_segmote


class TestSegmoteFrozen(SegmenterContract):
    """Section 4: SAM stays as it is, MoTE, PPT, text and score head train."""

    keys_file = "segmote_frozen.json"
    keys: dict[str, object] = {"ppt": "on"}  # noqa: RUF012

    def build(self, *, checkpointing: bool = False) -> Segmenter:
        return small_segmote(checkpoint_encoder=checkpointing, **self.keys)

    def images(self) -> Tensor:
        return small_images()

    def prompts(self) -> tuple[Prompts, Tensor]:
        return mixed_prompts()

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
            "point label": (features, replace(prompts, point_labels=prompts.point_labels.clone().clamp(max=0))),
            "box": (features, replace(prompts, boxes=prompts.boxes + 3)),
            "mask": (features, replace(prompts, masks=-prompts.masks)),
            "class": (features, replace(prompts, class_index=prompts.class_index.clamp(max=0))),
        }

    def balance_at(self, *, intended: bool) -> dict[str, float]:
        # Eight queries of four tokens: spread over four experts and four tokens, or all at the first.
        winner = torch.arange(32) % 4 if intended else torch.zeros(32, dtype=torch.long)
        logits = 10 * F.one_hot(winner, 4).float()
        layers: dict[str, Routing] = {name: choose_experts(logits, num_active=1) for name in ("layer1", "layer2")}
        _, choice = choose_token(logits[:8])
        losses = balance_losses(layers, choice, expert_weight=1.0, token_weight=1.0)
        return {name: float(loss) for name, loss in losses.items()}

    def step_zero(self) -> tuple[Tensor, Tensor]:
        """With isolated experts SAM's own masks are plain SAM's, for any prompt that SAM takes."""
        segmenter = small_segmote(isolate_experts=True, **{**self.keys, "ppt": "off", "text": "none"}).eval()
        prompts, image_Q = mixed_prompts(text=False)
        with torch.no_grad():
            embedding = segmenter.encode(self.images()).maps["embedding"][image_Q]
            ours = segmenter.sam_masks(segmenter.encode(self.images()).take(image_Q), prompts)
            base = torch.cat([_plain_sam(segmenter, embedding, prompts, row) for row in range(prompts.num_queries)])
        return ours.logits, base


class TestSegmoteTrained(TestSegmoteFrozen):
    """Section 4.2 and the small preset: encoder and decoder train too."""

    keys_file = "segmote_trained.json"
    keys: dict[str, object] = {  # noqa: RUF012
        "ppt": "on",
        "train_encoder": True,
        "train_decoder": True,
        "expert_tail": "shared",
    }


class TestSegmoteTiny(TestSegmoteTrained):
    """The small preset's own parts: stem, drawn prompts, a second look."""

    keys_file = "segmote_tiny.json"
    keys: dict[str, object] = {  # noqa: RUF012
        "ppt": "on",
        "train_encoder": True,
        "train_decoder": True,
        "stem": "conv",
        "draw_prompts": True,
        "region_refinement": True,
        "region_size": 16,
        "encoder_size": 32,
    }

    def prompts(self) -> tuple[Prompts, Tensor]:
        return mixed_prompts(mask_size=(8, 8))

    def test_fresh_model_is_its_base_model(self) -> None:
        """With drawn prompts the base is the box itself: untrained, it is answered by the ellipse inscribed into it."""
        segmenter = small_segmote(**self.keys).eval()
        prompts, _ = self.prompts()
        box = replace(
            _first(prompts),
            point_labels=torch.full((1, 3), -1),
            boxes=torch.tensor([[8.0, 12.0, 50.0, 40.0]]),
            has_mask=torch.tensor([False]),
        )
        assert segmenter.answer.region is not None
        with torch.no_grad():
            segmenter.mote.heads.soften(0)
            segmenter.answer.region.heads.soften(0)
            ours = segmenter.decode(segmenter.encode(self.images()[:1]), box).logits[0, 0] > 0
        rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
        ellipse = ((columns - 29) / 21) ** 2 + ((rows - 26) / 14) ** 2 < 1
        assert (ours != ellipse).sum() < 0.03 * ellipse.sum(), "more than a pixel here and there on the rim"


def _first(prompts: Prompts) -> Prompts:
    first = torch.tensor([0])
    return Prompts(
        points=prompts.points[first],
        point_labels=prompts.point_labels[first],
        boxes=prompts.boxes[first],
        masks=None,
        has_mask=prompts.has_mask[first],
        class_index=prompts.class_index[first],
    )


def _plain_sam(segmenter: Segmote, embedding_QDhw: Tensor, prompts: Prompts, row: int) -> Tensor:
    """What segment_anything makes of one query, (1, 4, H, W), with its half-pixel convention undone."""
    encoder: PromptEncoder = segmenter.prompt_encoder
    used = prompts.point_labels[row] != -1
    has_box = not bool(prompts.boxes[row].isnan().any())
    points = (prompts.points[row][used][None] - 0.5, prompts.point_labels[row][used][None])
    shift = torch.tensor([0.0, 0.0, -1.0, -1.0])  # from pixel edges to indices of the first and last pixel
    sparse, dense = encoder(
        points=points if bool(used.any()) else None,
        boxes=(prompts.boxes[row] + shift)[None] if has_box else None,
        masks=prompts.masks[row][None] if prompts.masks is not None and bool(prompts.has_mask[row]) else None,
    )
    masks, _ = segmenter.mask_decoder.predict_masks(
        image_embeddings=embedding_QDhw[row][None],
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse if sparse.shape[0] else sparse.new_zeros(1, 0, sparse.shape[2]),
        dense_prompt_embeddings=dense[:1],
    )
    return F.interpolate(masks, size=(segmenter.input_size,) * 2, mode="bilinear", align_corners=False)
