"""A fresh MoE-SAM is plain SAM: encoder and fused embedding against segment_anything's, with the same weights."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor

from medmoe_cli.core.models.moe_sam.model import MoeSam
from medmoe_cli.core.nn.sam2d import normalise_pixels
from tests.tools.moe_sam import nothing, plain_encoder, small_images, small_moe_sam, small_plan, wake

ADAPTERS = ["attention+mlp", "attention", "lora", "sam-med2d", "none"]
FUSIONS = ["moe", "add", "none"]


def randomised(model: MoeSam) -> MoeSam:
    """SAM's own parts well away from their start; what MoE-SAM adds stays as built."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.image_encoder.named_parameters():
            if ".adapter." not in name and parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            elif "pos" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 0.01, "a constant proves nothing"
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_fresh_model_encodes_as_plain_sam(adapter: str, fusion: str) -> None:
    model = randomised(small_moe_sam(adapter=adapter, fusion=fusion))
    with torch.no_grad():
        theirs = plain_encoder(model)(normalise_pixels(small_images()))
        features = model.encode(small_images())
        assert difference(features.maps["embedding"], theirs) <= 1e-5
        assert difference(model.enhance(features), theirs) <= 1e-5


def test_vit_b_at_256_with_windows() -> None:
    """Windows that SAM would pad, at SAM's own size: the sum of errors over twelve blocks."""
    model = randomised(small_moe_sam(plan=small_plan(size=256), backbone="sam-vit-b", weights="random"))
    images = small_images(1, size=256)
    with torch.no_grad():
        theirs = plain_encoder(model)(normalise_pixels(images))
        features = model.encode(images)
        assert difference(features.maps["embedding"], theirs) <= 1e-5
        assert difference(model.enhance(features), theirs) <= 1e-5


@pytest.mark.parametrize("adapter", ADAPTERS[:-1])
def test_an_adapter_that_woke_changes_the_embedding(adapter: str) -> None:
    fresh, awake = small_moe_sam(adapter=adapter).eval(), small_moe_sam(adapter=adapter).eval()
    wake(awake.image_encoder)
    with torch.no_grad():
        before = fresh.encode(small_images()).maps["embedding"]
        after = awake.encode(small_images()).maps["embedding"]
    assert float((before - after).abs().max()) > 1e-2


@pytest.mark.parametrize("size", [64, 80, 272])
@pytest.mark.parametrize("adapter", ["lora", "sam-med2d"])
def test_adapters_and_padded_windows(adapter: str, size: int) -> None:
    """With LoRA awake, the padding that SAM's windows attend to is still the constant bias: zero tokens stay zero."""
    model = small_moe_sam(plan=small_plan(size=size), adapter=adapter, width=48, heads=3).eval()
    wake(model.image_encoder)
    with torch.no_grad():
        embedding = model.encode(small_images(size=size)).maps["embedding"]
        alone = model.encode(small_images(size=size)[1:]).maps["embedding"]
    assert embedding.shape[-1] == size // 16
    assert float((embedding[1:] - alone).abs().max()) <= 1e-5


def test_masks_are_sams_for_the_classes_it_has_tokens_for() -> None:
    """The decoder alone, without prompt tokens: segment_anything's masks from the same weights, image by image."""
    model = small_moe_sam(lpeg=False, fusion="none", adapter="none").eval()
    theirs = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=8),
        transformer_dim=32,
    )
    missing, unexpected = theirs.load_state_dict(model.mask_decoder.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("iou_prediction_head.") for name in missing)
    with torch.no_grad():
        features = model.encode(small_images())
        ours = model.decode(features, nothing(2)).logits
        for row in range(2):
            masks, _ = theirs.eval().predict_masks(
                image_embeddings=features.maps["embedding"][row : row + 1],
                image_pe=model.prompt_encoder.position(),
                sparse_prompt_embeddings=torch.zeros(1, 0, 32),
                dense_prompt_embeddings=model.prompt_encoder.dense().expand(-1, -1, 4, 4),
            )
            expected = torch.nn.functional.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False)
            assert difference(ours[row : row + 1], expected) <= 1e-5
