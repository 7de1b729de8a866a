"""Pretrained SAM tensors find their place at any input size, or none is put anywhere without a word."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.nn.sam2d import load_start
from tests.tools.segmote import SMALL, mixed_prompts, small_images, small_plan, small_segmote


def test_weights_of_another_input_size_are_resized() -> None:
    source = small_segmote(plan=small_plan(size=128), seed=5)
    tensors = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(("mote.", "text."))}
    model = Segmote.build(SegmoteConfig.model_validate(SMALL), small_plan(size=64), backbone=tensors)
    state = model.state_dict()
    assert state["image_encoder.pos_embed"].shape == (1, 4, 4, 48)
    expected = torch.nn.functional.interpolate(
        tensors["image_encoder.pos_embed"].permute(0, 3, 1, 2), size=(4, 4), mode="bilinear"
    )
    torch.testing.assert_close(state["image_encoder.pos_embed"], expected.permute(0, 2, 3, 1))
    for name in ("mask_decoder.iou_token.weight", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"):
        assert torch.equal(state[name], tensors[name])


def test_expert_tokens_start_from_sams_single_mask_token() -> None:
    state = small_segmote(seed=5).state_dict()
    tensors = {name: tensor for name, tensor in state.items() if not name.startswith("mote.")}
    torch.manual_seed(0)
    model = Segmote.build(SegmoteConfig.model_validate(SMALL), small_plan(), backbone=tensors).eval()
    sam = model.mask_decoder.output_hypernetworks_mlps[0]
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        decoded = model._decode(model.encode(small_images()).take(image_Q).maps, prompts)
        rows = torch.arange(prompts.num_queries)
        head = sam(decoded.token)
        heads = model.mote.heads(decoded.token[:, None].expand(-1, 4, -1))[rows, decoded.choice.indices[:, 0]]
    torch.testing.assert_close(heads, head)


def test_a_trained_segmote_goes_on_whole_and_other_classes_begin_anew() -> None:
    trained = small_segmote(seed=5).state_dict()
    model = Segmote.build(SegmoteConfig.model_validate(SMALL), small_plan(), backbone=trained)
    assert model.backbone_report is not None
    assert not model.backbone_report.missing
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
    fewer = Segmote.build(SegmoteConfig.model_validate(SMALL), small_plan(labels=1), backbone=trained)
    assert fewer.backbone_report is not None
    assert fewer.backbone_report.missing
    assert all(name.startswith(("text.", "ppt.")) for name in fewer.backbone_report.missing)
    assert torch.equal(fewer.mote.tokens, trained["mote.tokens"])


def test_missing_and_misshapen_tensors_are_refused_by_name() -> None:
    model = small_segmote()
    tensors = dict(small_segmote(seed=5).state_dict())
    del tensors["mask_decoder.iou_token.weight"]
    with pytest.raises(CheckpointError, match=r"1 tensors are missing in backbone 'my-sam': mask_decoder\.iou_token"):
        load_start(model, tensors, name="my-sam")
    tensors["image_encoder.patch_embed.proj.weight"] = torch.zeros(48, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight is \(48, 3, 8, 8\), not \(48, 3, 16, 16\)"):
        load_start(model, tensors, name="my-sam")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nothing_that_matches_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="no tensor fits"):
        load_start(small_segmote(), {"mask_decoder.weight": torch.zeros(3)}, name="other")


def test_sams_own_encoder_loads_with_nothing_missing() -> None:
    theirs = ImageEncoderViT(
        depth=2,
        embed_dim=48,
        img_size=64,
        num_heads=3,
        out_chans=32,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(0, 1),
    )
    tensors = {f"image_encoder.{name}": torch.randn_like(tensor) * 0.1 for name, tensor in theirs.state_dict().items()}
    theirs.load_state_dict({name.removeprefix("image_encoder."): tensor for name, tensor in tensors.items()})
    rest = {
        name: tensor for name, tensor in small_segmote().state_dict().items() if not name.startswith("image_encoder.")
    }
    model = Segmote.build(SegmoteConfig.model_validate(SMALL), small_plan(), backbone={**rest, **tensors}).eval()
    image = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.no_grad():
        expected = theirs((image * 255 - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(model.encode(image).maps["embedding"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("keys", "size", "message"),
    [
        ({}, 72, "set plan.input_size to 64"),
        ({"backbone": "sam-vit-b", "early_block": 12}, 64, "sam-vit-b has blocks 0 to 11"),
    ],
)
def test_sizes_that_do_not_go_together(keys: dict[str, object], size: int, message: str) -> None:
    config = SegmoteConfig.model_validate({**SMALL, **keys})
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        Segmote.build(config, small_plan(size=size))
