"""Small DA-SAM3s, plans and questions for them, and a small SAM3 laid out as its public releases are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Sam3Model

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.models.da_sam3.layer import DualAdaptiveLayer
from medmoe_cli.core.models.da_sam3.model import DaSam3
from medmoe_cli.core.nn.moe import LowRankExperts
from medmoe_cli.core.nn.sam3.hf import build_sam3
from medmoe_cli.core.nn.sam3.tokens import END, START, learn_merges
from medmoe_cli.core.nn.sam3.words import small_vocabulary
from medmoe_cli.core.nn.segmenter import Prompts

SIZE = 32
NAMES = ("liver", "left_kidney", "spleen")
SMALL: dict[str, object] = {
    "backbone": "tiny",
    "vision_width": 32,
    "vision_depth": 1,
    "vision_heads": 2,
    "patch_size": 8,
    "stem_channels": 8,
    "text_width": 32,
    "text_depth": 1,
    "width": 32,
    "heads": 2,
    "mlp": 64,
    "fusion_layers": 4,
    "decoder_layers": 2,
    "queries": 3,
    "rank": 4,
    "context_grid": 2,
}


def small_plan(*, size: int = SIZE, channels: int = 1, names: Sequence[str] = NAMES) -> Plan:
    """A plan of a made-up dataset."""
    return Plan(
        dataset="made-up",
        method="da-sam3",
        preset="da-sam3-tiny",
        dims=2,
        slice_axis=2,
        input_size=size,
        spacing_mm=None,
        channels=tuple(ChannelPlan(name=f"channel {index}", normalization="none") for index in range(channels)),
        labels={name: value for value, name in enumerate(names, start=1)},
        class_prompts={},
        binary=False,
        mirror_axes=(),
        batch_size=2,
        num_experts=4,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def small_config(**keys: object) -> DaSam3Config:
    """The `model` section of a DA-SAM3 of two hundred thousand parameters."""
    return DaSam3Config.model_validate({**SMALL, **keys})


def small_da_sam3(*, plan: Plan | None = None, seed: int = 0, learned: bool = False, **keys: object) -> DaSam3:
    """A small DA-SAM3, the same at every call.

    Args:
        learned: deltas that are not zero, as if they had been trained.
    """
    torch.manual_seed(seed)
    model = DaSam3.build(small_config(**keys), plan or small_plan())
    if learned:
        move_deltas(model)
    return model


@torch.no_grad()
def move_deltas(model: DaSam3, *, std: float = 0.2) -> None:
    """Make the experts differ, and everything at a special value ordinary."""
    generator = torch.Generator().manual_seed(9)
    for layer in model.sam3.detr_encoder.layers:
        if isinstance(layer, DualAdaptiveLayer) and isinstance(layer.experts, LowRankExperts):
            for factor in (layer.experts.b_in, layer.experts.b_out):
                factor.copy_(std * torch.randn(factor.shape, generator=generator))
    for part in (model.sam3, model.stem):
        for name, parameter in part.named_parameters() if part is not None else ():
            if name.endswith("bias"):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    # Small random weights would leave texts and images without a say; a trained model's do not.
    for name, parameter in model.sam3.named_parameters():
        if parameter.ndim == 2 and parameter.shape[0] > 1 and "embed" not in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)


def small_images(count: int = 2, *, channels: int = 1, size: int = SIZE) -> Tensor:
    """Different images in [0, 1]."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(21))


def ask(*class_index: int) -> Prompts:
    """One query per name, by its position."""
    queries = len(class_index)
    return Prompts(
        points=torch.zeros(queries, 0, 2),
        point_labels=torch.zeros(queries, 0, dtype=torch.int64),
        boxes=torch.full((queries, 4), torch.nan),
        masks=None,
        has_mask=torch.zeros(queries, dtype=torch.bool),
        class_index=torch.tensor(class_index),
    )


def small_sam3(*, seed: int = 3, **keys: object) -> Sam3Model:
    """A SAM3 without experts of the small config's sizes, patches in place of the stem."""
    config = small_config(stem="patch", **keys)
    torch.manual_seed(seed)
    return build_sam3(config.sizes_at(SIZE), image_size=SIZE)


def write_folder(folder: Path, sam3: Sam3Model, *, prefix: str = "detector_model.") -> Path:
    """The model as transformers publishes it: weights, config.json and tokenizer.json."""
    folder.mkdir(parents=True)
    tensors = {f"{prefix}{name}": tensor.clone() for name, tensor in sam3.state_dict().items()}
    tensors["tracker_model.unused"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**sam3.config.to_dict(), "model_type": "sam3"}, default=str))
    write_tokenizer(folder / "tokenizer.json", num_merges=sam3.vocab_size - 514)
    return folder


def write_tokenizer(path: Path, *, num_merges: int) -> None:
    """A tokenizer.json in CLIP's order of tokens."""
    from medmoe_cli.core.nn.sam3 import tokens

    merges = learn_merges(small_vocabulary(), size=num_merges)
    names = [*tokens._byte_names(), *(first + second for first, second in merges)]
    vocabulary = {name: index for index, name in enumerate(names)}
    vocabulary |= {START: 512 + num_merges, END: 513 + num_merges}
    content = {"model": {"type": "BPE", "vocab": vocabulary, "merges": [list(pair) for pair in merges]}}
    path.write_text(json.dumps(content), encoding="utf-8")
