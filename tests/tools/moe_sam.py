"""Small MoE-SAMs, plans for them, and plain SAM's encoder to compare with."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from medmoe_cli.core.models.moe_sam.model import MoeSam
from medmoe_cli.core.nn.sam2d import SamSize
from medmoe_cli.core.nn.segmenter import Prompts

SIZE = 64
SMALL: dict[str, object] = {
    "backbone": "tiny",
    "width": 48,
    "depth": 3,
    "heads": 3,
    "decoder_width": 32,
    "decoder_mlp": 64,
    "expert_width": 32,
    "fusion_heads": 4,
    "lpeg_width": 8,
}
# The small preset's own way: everything trains, a convolutional stem.
TINY: dict[str, object] = {
    "train_encoder": True,
    "adapter": "none",
    "patch_size": 8,
    "stem": "conv",
    "stem_channels": 8,
    "fusion_norm": True,
}


def small_plan(
    *, size: int = SIZE, channels: int = 1, labels: int = 3, num_experts: int = 4, context_slices: int = 0
) -> Plan:
    """A plan of a made-up dataset."""
    return Plan(
        dataset="made-up",
        method="moe-sam",
        preset="moe-sam-tiny",
        dims=2,
        slice_axis=2,
        input_size=size,
        spacing_mm=None,
        channels=tuple(ChannelPlan(name=f"channel {index}", normalization="none") for index in range(channels)),
        labels={f"organ {index}": index for index in range(1, labels + 1)},
        class_prompts={},
        binary=labels == 1,
        mirror_axes=(),
        context_slices=context_slices,
        batch_size=2,
        num_experts=num_experts,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def small_moe_sam(*, plan: Plan | None = None, seed: int = 0, awake: bool = False, **keys: object) -> MoeSam:
    """A MoE-SAM of two hundred thousand parameters, the same at every call.

    Args:
        plan: None for `small_plan`.
        seed: of the weights.
        awake: no parameter is left at zero, so that nothing is silent as it is in a fresh model.
        keys: of the `model` section, over `SMALL`.
    """
    torch.manual_seed(seed)
    model = MoeSam.build(MoeSamConfig.model_validate({**SMALL, **keys}), plan or small_plan())
    if awake:
        wake(model)
    return model


@torch.no_grad()
def wake(model: nn.Module) -> None:
    """Give every parameter that is all zero small random values."""
    for parameter in model.parameters():
        if not bool(parameter.any()):
            parameter.normal_(std=0.1)


def small_images(count: int = 2, *, channels: int = 1, size: int = SIZE) -> Tensor:
    """Different images in [0, 1]."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(11))


def nothing(count: int) -> Prompts:
    """Queries that come with nothing."""
    return Prompts(
        points=torch.zeros(count, 0, 2),
        point_labels=torch.zeros(count, 0, dtype=torch.int64),
        boxes=torch.full((count, 4), torch.nan),
        masks=None,
        has_mask=torch.zeros(count, dtype=torch.bool),
        class_index=torch.full((count,), -1),
    )


def plain_encoder(model: MoeSam) -> ImageEncoderViT:
    """segment_anything's encoder with the model's own weights; every tensor of it is filled."""
    size: SamSize = model.image_encoder.size
    theirs = ImageEncoderViT(
        depth=size.depth,
        embed_dim=size.width,
        img_size=model.input_size,
        patch_size=size.patch,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=size.num_heads,
        use_rel_pos=True,
        global_attn_indexes=size.global_blocks,
        window_size=14,
        out_chans=size.neck_width,
    )
    tensors = {name: one for name, one in model.image_encoder.state_dict().items() if ".adapter." not in name}
    theirs.load_state_dict(tensors, strict=True)
    return theirs.eval()
