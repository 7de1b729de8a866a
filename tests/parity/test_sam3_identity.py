"""With experts that have learned nothing, DA-SAM3's answers are those of transformers' Sam3Model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import Sam3Model

from medmoe_cli.core.models.da_sam3.model import DaSam3
from medmoe_cli.core.nn.backbones import convert_sam3
from medmoe_cli.core.nn.sam3.tokens import Tokenizer
from tests.tools.da_sam3 import NAMES, SIZE, ask, small_config, small_images, small_plan, small_sam3, write_folder


@pytest.fixture
def sam3() -> Sam3Model:
    """A SAM3 whose weights are not so small that every answer is the same."""
    model = small_sam3().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"top_k": 1},
        {"num_experts": 6, "top_k": 6},
        {"router": "token"},
        {"router": "random"},
        {"experts": "full"},
        {"experts": "lora"},
        {"experts": "none"},
        {"moe_layers": [0, 1, 2, 3]},
        {"checkpoint_layers": True},
    ],
    ids=str,
)
def test_plain_sam3_at_the_start(sam3: Sam3Model, keys: dict[str, object], tmp_path: Path) -> None:
    backbone = convert_sam3(write_folder(tmp_path / "sam3", sam3)).tensors
    config = small_config(stem="patch", weights="small", **keys)
    ours = DaSam3.build(config, small_plan(), backbone=backbone).eval()
    images = small_images()
    with torch.no_grad():
        output = ours.decode(ours.encode(images), ask(0, 1))
        tokens = Tokenizer(ours.concepts_known.merges, length=24)([name.replace("_", " ") for name in NAMES[:2]])
        plain = sam3(
            pixel_values=(images.expand(-1, 3, -1, -1) - 0.5) / 0.5,
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
        )
    masks = F.interpolate(plain.semantic_seg, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    assert float(masks.std()) > 1e-3
    assert float((output.logits - masks).abs().max()) <= 1e-5
    assert output.score_logits is not None
    assert float((output.score_logits - plain.presence_logits[:, 0]).abs().max()) <= 1e-5


def test_instances_are_sam3s(sam3: Sam3Model, tmp_path: Path) -> None:
    backbone = convert_sam3(write_folder(tmp_path / "sam3", sam3)).tensors
    config = small_config(stem="patch", weights="small", output="instances")
    ours = DaSam3.build(config, small_plan(), backbone=backbone).eval()
    images = small_images()
    with torch.no_grad():
        found = ours.decode(ours.encode(images), ask(0, 1)).low_res_logits
        tokens = Tokenizer(ours.concepts_known.merges, length=24)(["liver", "left kidney"])
        plain = sam3(
            pixel_values=(images.expand(-1, 3, -1, -1) - 0.5) / 0.5,
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
        )
    weight = (plain.pred_logits.sigmoid() * plain.presence_logits.sigmoid())[..., None, None]
    expected = 1 - (1 - weight * plain.pred_masks.sigmoid()).prod(dim=1, keepdim=True)
    assert found is not None
    assert float((found.sigmoid() - expected).abs().max()) <= 1e-5
