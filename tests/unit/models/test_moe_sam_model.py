"""MoE-SAM's input, weights, answers and pictures."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.engine.losses import Target, combine
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.models.moe_sam.model import MoeSam
from medmoe_cli.core.nn.backbones import SamParts
from medmoe_cli.core.nn.channels import channel_mix
from medmoe_cli.core.nn.sam2d import normalise_pixels
from tests.tools.moe_sam import SMALL, TINY, nothing, small_images, small_moe_sam, small_plan

ROWS = [
    *({"adapter": adapter, "fusion": fusion, "lpeg": lpeg}  # table 2
      for adapter, fusion, lpeg in product(("attention", "lora"), ("moe", "none"), (True, False))),
    *({"adapter": adapter, "fusion": fusion, "lpeg": False}  # table 3
      for adapter, fusion in product(("none", "sam-med2d", "lora"), ("none", "add", "moe"))),
]  # fmt: skip


def answer(model: MoeSam, images: Tensor) -> Tensor:
    return model.decode(model.encode(images), nothing(len(images))).logits


# Ablations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(f"{value}" for value in row.values()))
def test_every_row_of_the_papers_ablations_trains(row: dict[str, object]) -> None:
    model = small_moe_sam(**row).train()
    labels = torch.randint(0, 4, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    output = model.decode(model.encode(small_images()), nothing(2))
    assert output.logits.shape == (2, 4, 64, 64)
    parts = combine(
        output, Target(masks=labels, valid=torch.ones(2, 64, 64, dtype=torch.bool)), model.stages()[0].losses
    )
    assert set(parts) == {"cross_entropy", "batch_dice"}
    sum(parts.values()).backward()  # type: ignore[union-attr]
    groups = {group.name: group for group in model.parameter_groups()}
    assert groups["encoder"].trainable == 0
    assert ("adapters" in groups) == (row["adapter"] != "none")
    assert ("MoE-FEB" in groups) == (row["fusion"] != "none")
    assert ("LPEG" in groups) == bool(row["lpeg"])
    trained = [one for one in model.parameters() if one.requires_grad]
    assert all(one.grad is not None for one in trained)


def test_losses_are_eq_7() -> None:
    assert MoeSamConfig().loss_weights == pytest.approx({"cross_entropy": 0.2, "batch_dice": 0.8})
    assert MoeSamConfig(dice_weight=1, dice_over="image").loss_weights == {"dice": 1}
    assert small_moe_sam().stages()[0].task == "automatic"


def test_the_prompt_is_made_of_the_enhanced_embedding() -> None:
    """The public code made it of the encoder's, and froze it."""
    model = small_moe_sam(awake=True, lpeg_pool=2).eval()
    assert model.lpeg is not None
    seen: list[Tensor] = []
    made: list[Tensor] = []
    model.lpeg.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.lpeg.register_forward_hook(lambda _, inputs, output: made.append(output))
    with torch.no_grad():
        features = model.encode(small_images())
        model.decode(features, nothing(2))
        torch.testing.assert_close(seen[0], model.enhance(features))
    assert made[0].shape == (2, 4, 32)
    assert float((seen[0] - features.maps["embedding"]).abs().max()) > 1e-3


# Input -------------------------------------------------------------------------------------------------------------


def test_grey_and_colour_need_no_projection_unless_asked() -> None:
    for channels in (1, 3):
        assert channel_mix(channels) is None
        assert channel_mix(channels, projection="off") is None
        mix = channel_mix(channels, projection="on")
        assert mix is not None
        images = small_images(channels=channels)
        torch.testing.assert_close(mix(images), images.expand(-1, 3, -1, -1))


def test_neighbouring_slices_begin_as_the_centre_slice_alone() -> None:
    for own, context in ((1, 1), (1, 2), (2, 1), (4, 1)):
        mix = channel_mix(own * (2 * context + 1), context_slices=context)
        assert mix is not None
        slices = torch.rand(2, 2 * context + 1, own, 8, 8)
        centre = channel_mix(own, projection="on")
        assert centre is not None
        torch.testing.assert_close(mix(slices.flatten(1, 2)), centre(slices[:, context]))
        assert mix.weight.requires_grad


def test_three_slices_of_one_channel_are_no_colours() -> None:
    assert channel_mix(3, context_slices=1) is not None
    with pytest.raises(ConfigError, match="5 input channels without a projection"):
        channel_mix(5, context_slices=2, projection="off")


def test_2_5d_model_begins_as_its_2d_twin_and_learns_from_neighbours() -> None:
    plan = small_plan(context_slices=1)
    model, twin = small_moe_sam(plan=plan).eval(), small_moe_sam().eval()
    assert model.channel_mix is not None
    twin.load_state_dict({name: one for name, one in model.state_dict().items() if not name.startswith("channel_mix.")})
    images = small_images(channels=3)
    torch.testing.assert_close(answer(model, images), answer(twin, images[:, 1:2]))
    answer(model, images).square().mean().backward()
    assert model.channel_mix.weight.grad is not None
    assert bool((model.channel_mix.weight.grad.flatten(1).abs() > 0).all())


def test_sams_normalisation_unless_switched_off() -> None:
    seen: list[Tensor] = []
    for normalise in ("sam", "none"):
        model = small_moe_sam(normalise=normalise).eval()
        model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        answer(model, small_images())
    torch.testing.assert_close(seen[0], normalise_pixels(small_images()))
    torch.testing.assert_close(seen[1], small_images().expand(-1, 3, -1, -1))


# Weights -----------------------------------------------------------------------------------------------------------


def sam_tensors(*, seed: int = 9) -> dict[str, Tensor]:
    """A SAM ViT-B in SAM's names, at 256 pixels, from the meta device's shapes."""
    with torch.device("meta"):
        shapes = {name: one.shape for name, one in SamParts("sam-vit-b", image_size=256).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("labels", [1, 6])
def test_sams_masks_become_the_first_classes(labels: int) -> None:
    tensors = sam_tensors()
    config = MoeSamConfig(fusion="none", expert_width=8)
    model = MoeSam.build(config, small_plan(labels=labels), backbone=tensors)
    classes, shared = labels + 1, min(labels + 1, 4)
    assert torch.equal(
        model.mask_decoder.mask_tokens.weight[:shared], tensors["mask_decoder.mask_tokens.weight"][:shared]
    )
    assert len(model.mask_decoder.mask_tokens.weight) == classes
    heads = {name: one for name, one in model.state_dict().items() if "output_hypernetworks_mlps" in name}
    for name, tensor in heads.items():
        index = int(name.split(".")[2])
        assert (index < shared) == (name in tensors and torch.equal(tensor, tensors[name])), name
    report = model.backbone_report
    assert report is not None
    assert "image_encoder.pos_embed" in report.resized
    beyond_sam = {name for name in heads if int(name.split(".")[2]) >= 4}
    assert {name for name in report.missing if ".adapter." not in name and not name.startswith("lpeg.")} == beyond_sam
    for name in ("image_encoder.blocks.3.mlp.lin1.weight", "prompt_encoder.no_mask_embed.weight"):
        assert torch.equal(model.state_dict()[name], tensors[name])
    if labels == 3:
        del (
            tensors["image_encoder.blocks.3.mlp.lin1.weight"],
            tensors["mask_decoder.output_hypernetworks_mlps.2.layers.0.bias"],
        )
        with pytest.raises(CheckpointError, match="2 tensors are missing"):
            MoeSam.build(config, small_plan(labels=labels), backbone=tensors)


@pytest.mark.parametrize("labels", [3, 6])
def test_a_trained_moe_sam_goes_on_whole_and_other_classes_begin_anew(labels: int) -> None:
    trained = small_moe_sam(seed=5).state_dict()
    model = MoeSam.build(small_moe_sam().config, small_plan(labels=labels), backbone=trained)
    assert model.backbone_report is not None
    beyond = {name for name in model.backbone_report.missing if "output_hypernetworks_mlps" in name}
    assert set(model.backbone_report.missing) == beyond
    assert bool(beyond) == (labels == 6)
    state = model.state_dict()
    assert torch.equal(state["mask_decoder.mask_tokens.weight"][:4], trained["mask_decoder.mask_tokens.weight"])
    copied = [name for name in model.backbone_report.loaded if name != "mask_decoder.mask_tokens.weight"]
    assert all(torch.equal(state[name], trained[name]) for name in copied)


def test_backbone_names() -> None:
    assert MoeSamConfig().backbone_weights == "sam-vit-b"
    assert MoeSamConfig(weights="medsam").backbone_weights == "medsam"
    assert MoeSamConfig(weights="random").backbone_weights is None
    assert MoeSamConfig(backbone="tiny").backbone_weights is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": "sam-vit-b", "stem": "conv"}, "stem: conv is for backbone: tiny"),
        ({"stem": "conv", "stem_stride": 4, "patch_size": 4}, "stem_stride 4 is not smaller"),
        ({"heads": 5}, "width 48 is not a multiple of heads 5"),
        ({"fusion_heads": 5}, "width 48 is not a multiple of fusion_heads 5"),
        ({"decoder_width": 48}, "decoder_width 48 is not a multiple of 32"),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MoeSamConfig.model_validate({**SMALL, **keys})


def test_input_size_must_be_a_multiple_of_the_patch() -> None:
    with pytest.raises(ConfigError, match="input size 72 is not a multiple of the patch 16"):
        small_moe_sam(plan=small_plan(size=72))


# The small model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patch", "stride"), [(4, 1), (4, 2), (8, 1), (8, 4), (16, 1), (16, 2), (16, 4)])
def test_stem_of_every_patch_and_stride(patch: int, stride: int) -> None:
    model = small_moe_sam(**{**TINY, "patch_size": patch, "stem_stride": stride})
    features = model.encode(small_images())
    stems = [tensor for name, tensor in features.maps.items() if name.startswith("stem ")]
    assert [64 // tensor.shape[-1] for tensor in stems] == [stride * 2**level for level in range(len(stems))]
    assert 64 // stems[-1].shape[-1] == patch // 2
    assert answer(model, small_images()).shape == (2, 4, 64, 64)


def test_stem_joins_the_mask_features() -> None:
    """Detail finer than a mask pixel of plain SAM reaches the answer."""
    model = small_moe_sam(**{**TINY, "patch_size": 16}, awake=True).eval()
    features = model.encode(small_images())
    other = {**features.maps, "stem 1": features.maps["stem 1"].flip(-1)}
    with torch.no_grad():
        before = model.decode(features, nothing(2)).logits
        after = model.decode(type(features)(maps=other, input_size=features.input_size), nothing(2)).logits
    assert float((before - after).abs().max()) > 1e-3


def test_patch_stem_has_nothing_beside_sam() -> None:
    model = small_moe_sam(adapter="none", fusion="none", lpeg=False)
    parts = {name.split(".", 1)[0] for name, _ in model.named_parameters()}
    assert parts == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert model.detail is None


# Pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"fusion": "add"}, {"fusion": "none"}, TINY])
def test_pictures(keys: dict[str, object]) -> None:
    model = small_moe_sam(awake=True, **keys).eval()
    pictures = model.pictures(small_images())
    layers = [f"layer {number}" for number in (1, 2, 3)]
    expected = {
        "moe": [*layers, "embedding before fusion", "after fusion", "attention"],
        "add": [*layers, "embedding before fusion", "after fusion"],
        "none": ["embedding before fusion"],
    }[str(keys.get("fusion", "moe"))]
    assert list(pictures) == expected
    assert all(len(picture) == 2 and torch.isfinite(picture).all() for picture in pictures.values())
    if "after fusion" in pictures:
        with torch.no_grad():
            torch.testing.assert_close(pictures["after fusion"], model.enhance(model.encode(small_images())))
        assert not torch.equal(pictures["after fusion"], pictures["embedding before fusion"])
    assert all(one.grad is None for one in model.parameters())
