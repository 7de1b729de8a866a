"""Backbones: public checkpoints turned into SAM's own names, and read back with their sha256 checked.

SAM-Med3D (github.com/uni-medical/SAM-Med3D) has these names already, and no embeddings for the corners of a box.
IMISNet (github.com/uni-medical/IMIS-Bench) keeps SAM's encoder under timm's names with an unused 256-wide neck inside,
its own 768-wide neck beside it, and more than a SAM: a CLIP text encoder and semantic tokens, which are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medmoe_cli.core.base.errors import CheckpointError
from medmoe_cli.core.config.backbones import BACKBONES, TENSORS_FILE, verify_backbone
from medmoe_cli.core.nn.sam2d import SamEncoder, build_mask_decoder, build_prompt_encoder, resize_table, sam_size
from medmoe_cli.core.nn.sam3d import NEW_TENSORS, Sam3dParts, resize_table_3d, sam3d_size
from medmoe_cli.core.nn.weights import KeyReport, Resize, load_into, load_tensors

_TIMM = "image_encoder.sam_encoder."
_IMIS_LEFT_OUT = (
    _TIMM + "neck.",
    "text_model.",
    "text_out_dim.",
    "mask_decoder.semantic_",
    "mask_decoder.text_output.",
)
_SAM3 = ("detector.", "detector_model.")
_FOREGROUND_POINT = "prompt_encoder.point_embeddings.1.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A checkpoint in SAM's names.

    Attributes:
        tensors: 'image_encoder.', 'prompt_encoder.' and 'mask_decoder.' names; complete.
        report: against the architecture at its own image size; missing is only what is new.
        left_out: names of the source that medmoe knows and does not use.
        new: tensors that public checkpoints of this architecture never hold (a box's corners in 3D), made here from
            the embedding of a foreground point; they are to be trained.
        parameters: how many, buffers not counted.
    """

    tensors: dict[str, Tensor]
    report: KeyReport
    left_out: tuple[str, ...]
    new: tuple[str, ...]
    parameters: int


class SamParts(nn.Module):
    """The parts of a SAM under the names of its checkpoints."""

    def __init__(self, architecture: str, *, image_size: int = 1024) -> None:
        super().__init__()
        size = sam_size(architecture)
        self.image_encoder = SamEncoder(size, image_size=image_size)
        grid = self.image_encoder.grid
        self.prompt_encoder = build_prompt_encoder(width=size.neck_width, image_size=image_size, grid=grid)
        self.mask_decoder = build_mask_decoder(width=size.neck_width)


def backbone_parts(architecture: str) -> SamParts | Sam3dParts:
    """The modules of an architecture of `BACKBONES`, freshly initialised, at its own image size."""
    return Sam3dParts(sam3d_size(architecture)) if _is_3d(architecture) else SamParts(architecture)


def convert(tensors: Mapping[str, Tensor], *, architecture: str, where: Path) -> Converted:
    """Turn a public checkpoint's tensors into SAM's names and check them against the architecture.

    Args:
        tensors: as `read_foreign` gives them.
        architecture: a name of `BACKBONES`.
        where: the file, for errors.

    Raises:
        CheckpointError: a tensor is missing or has another shape; the fix names the architecture that fits, if one
            does.
    """
    renamed, left_out = _rename(tensors, architecture)
    skeleton = _skeleton(architecture)
    try:
        report = load_into(skeleton, renamed, resize=_resize(architecture), where=where)
        missing = _truly_missing(report, architecture)
        if missing:
            names = ", ".join(missing[:2]) + (", and more" if len(missing) > 2 else "")
            raise CheckpointError(
                "incomplete checkpoint",
                where=where,
                why=f"{len(missing)} of {architecture}'s tensors are missing: {names}",
                fix="add a file with image encoder, prompt encoder and mask decoder",
            )
    except CheckpointError as error:
        fitting = [name for name in BACKBONES if name != architecture and _fits(tensors, name)]
        if not fitting:
            raise
        raise CheckpointError(
            f"not a {architecture}", where=where, why=error.why, fix=f"medmoe models add {fitting[0]} {where}"
        ) from error
    kept = {name: renamed[name] for name in report.loaded}
    kept |= {name: renamed[_FOREGROUND_POINT].clone() for name in report.missing}
    return Converted(
        tensors=kept,
        report=report,
        left_out=left_out,
        new=report.missing,
        parameters=sum(kept[name].numel() for name, _ in skeleton.named_parameters()),
    )


def convert_sam3(path: Path) -> Converted:
    """Turn a SAM3 of either release into transformers' names, its tokenizer and sizes as tensors beside the weights.

    Args:
        path: a folder, or a file of weights with the tokenizer's file beside it.

    Raises:
        CheckpointError: something is missing, damaged, or of another shape than the configuration's.
    """
    from medmoe_cli.core.nn.sam3.hf import build_sam3
    from medmoe_cli.core.nn.sam3.source import (
        SIZES,
        TOKENIZER,
        find_source,
        pack_sizes,
        read_merges,
        read_sizes,
        read_weights,
    )

    source = find_source(path)
    sizes = read_sizes(source)
    merges = read_merges(source, sizes)
    renamed = read_weights(source)
    with torch.device("meta"):
        skeleton = build_sam3(sizes, image_size=sizes.pretrain_size)
    report = load_into(skeleton, renamed.tensors, where=path)
    if report.missing:
        names = ", ".join(report.missing[:2]) + (", and more" if len(report.missing) > 2 else "")
        raise CheckpointError(
            "incomplete checkpoint",
            where=path,
            why=f"{len(report.missing)} of sam3's tensors are missing: {names}",
            fix="download the files again from huggingface.co/facebook/sam3",
        )
    weights = {name: renamed.tensors[name] for name in report.loaded}
    return Converted(
        tensors={**weights, TOKENIZER: merges, SIZES: pack_sizes(sizes)},
        report=report,
        left_out=renamed.left_out,
        new=(),
        parameters=sum(weights[name].numel() for name, _ in skeleton.named_parameters()),
    )


def source_files(path: Path, architecture: str) -> tuple[Path, ...]:
    """The files that adding a backbone reads.

    Raises:
        CheckpointError: of an architecture of several files, some are missing.
    """
    if not BACKBONES[architecture].with_files:
        return (path,)
    from medmoe_cli.core.nn.sam3.source import find_source

    return find_source(path).files


def load_backbone(folder: Path) -> dict[str, Tensor]:
    """The tensors of an added backbone, by SAM's names.

    Args:
        folder: holds model.safetensors and model.json.

    Raises:
        CheckpointError: absent, or its bytes are not those that were added.
    """
    verify_backbone(folder)
    return load_tensors(folder / TENSORS_FILE)


def _rename(tensors: Mapping[str, Tensor], architecture: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if architecture != "imisnet-b":
        return dict(tensors), ()
    left_out = tuple(name for name in tensors if name.startswith(_IMIS_LEFT_OUT))
    return {_from_timm(name): tensor for name, tensor in tensors.items() if name not in set(left_out)}, left_out


def _from_timm(name: str) -> str:
    if not name.startswith(_TIMM):
        return name
    inner = name.removeprefix(_TIMM).replace(".mlp.fc1.", ".mlp.lin1.").replace(".mlp.fc2.", ".mlp.lin2.")
    return f"image_encoder.{inner}"


def _skeleton(architecture: str) -> SamParts | Sam3dParts:
    with torch.device("meta"):
        return backbone_parts(architecture)


def _is_3d(architecture: str) -> bool:
    return BACKBONES[architecture].dims == 3


def _resize(architecture: str) -> Resize:
    return resize_table_3d if _is_3d(architecture) else resize_table


def _truly_missing(report: KeyReport, architecture: str) -> tuple[str, ...]:
    expected = NEW_TENSORS if _is_3d(architecture) else ()
    return tuple(name for name in report.missing if name not in expected)


def _fits(tensors: Mapping[str, Tensor], architecture: str) -> bool:
    if BACKBONES[architecture].with_files:
        return any(name.startswith(_SAM3) for name in tensors)
    renamed, _ = _rename(tensors, architecture)
    try:
        report = load_into(_skeleton(architecture), renamed, resize=_resize(architecture))
    except CheckpointError:
        return False
    return not _truly_missing(report, architecture)
