"""What merging needs to know of a model's tensors and keys: parts by name, a gate with one more answer, one config.

A merged model's tensors are the general model's (`image_encoder.`, `prompt_encoder.`, `mask_decoder.`), `gate.`, and
for each expert i `experts.<i>.mask_decoder.` and `experts.<i>.query_tokens`. An expert's own part is its decoder and
its query tokens, under the names they have in the model that was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmoe_cli.core.models.sam_med3d_moe.config import ARCHITECTURE_KEYS, ExpertEntry, SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.stages import QUERY_TOKENS

_EXPERT_PARTS = ("mask_decoder.", QUERY_TOKENS)
_NUMBERED = re.compile(r"experts\.(\d+)\.(.+)")
_LAST = ("head.2.weight", "head.2.bias")  # of the gate: one row per answer


def experts_from(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """The experts' own parts, in order: of a merged model all of them, of a trained expert itself, else none."""
    if QUERY_TOKENS in tensors:
        return ({name: tensor for name, tensor in tensors.items() if name.startswith(_EXPERT_PARTS)},)
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NUMBERED.fullmatch(name)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = tensor
    return tuple(found[index] for index in sorted(found))


def shared_from(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything but the experts: encoder, prompt encoder, general decoder, and the gate where there is one."""
    return {name: tensor for name, tensor in tensors.items() if not _NUMBERED.fullmatch(name)}


def expert_names(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """An expert's own part under its names in a merged model."""
    return {f"experts.{index}.{name}": tensor for name, tensor in tensors.items()}


def merged_config(general: SamMed3dMoeConfig, experts: Sequence[ExpertEntry], **keys: object) -> SamMed3dMoeConfig:
    """The merged model's section: the general's keys with the experts, and what `keys` set (tau, fuse, fusion, ...)."""
    values = {**general.model_dump(), "role": "merged", "general": None, "experts": list(experts), **keys}
    return SamMed3dMoeConfig.model_validate(values)


def expert_config(general: SamMed3dMoeConfig, *, source: str, **keys: object) -> SamMed3dMoeConfig:
    """The section of an expert that starts from a general model called `source`."""
    values = {**general.model_dump(), "role": "expert", "general": source, "experts": (), **keys}
    return SamMed3dMoeConfig.model_validate(values)


def differing_keys(general: SamMed3dMoeConfig, other: SamMed3dMoeConfig) -> tuple[str, ...]:
    """'key: theirs, not ours' for each key of the common architecture that differs."""
    tiny = "tiny" in (general.backbone, other.backbone)
    found = []
    for key in ARCHITECTURE_KEYS if tiny else ("backbone",):
        if key != "axes" and getattr(general, key) != getattr(other, key):
            found.append(f"model.{key}: {getattr(other, key)}, not {getattr(general, key)}")
    if general.published_axes != other.published_axes:
        found.append(f"model.axes: {other.axes}, not {general.axes}")
    return tuple(found)


def grow_gate(tensors: Mapping[str, Tensor], *, experts: int = 1) -> dict[str, Tensor]:
    """The gate's tensors with answers for more experts; the old answers stay as they are.

    A new answer does not depend on the input yet and is as unlikely as the least likely of the old ones by bias.

    Args:
        tensors: the gate's, with or without its prefix.
        experts: how many to add.
    """
    grown = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(_LAST[0]):
            grown[name] = torch.cat([tensor, tensor.new_zeros(experts, tensor.shape[1])])
        elif name.endswith(_LAST[1]):
            grown[name] = torch.cat([tensor, tensor.min().expand(experts)])
    return grown
